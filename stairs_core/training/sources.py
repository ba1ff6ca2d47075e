"""What the model card states about each source of training text, and its licence."""

# What each known source is and how it may be used; a source not named here is the trainer's own.
SOURCES = {
    "tinystories_cased": ("TinyStories (Eldan & Li 2023, arXiv 2305.07759)", "CDLA-Sharing-1.0"),
    "tinystories_truecased_from_lower": (
        "more TinyStories, case restored by a statistical truecaser (0.5 % of words wrong)",
        "CDLA-Sharing-1.0",
    ),
    "storybooks_ccby": (
        "children's storybooks, Pratham Books and African Storybook "
        "(global-asp/pb-source, global-asp/asp-source)",
        "CC BY 3.0/4.0; every story and its authors in ATTRIBUTION.tsv",
    ),
    "fairytaleqa": ("fairy tales (WorkInTheDark/FairytaleQA_Dataset)", "Apache-2.0"),
    "folk_fairy_prose": (
        "Grimm, Lang, Jacobs, Aesop and others (templeoflum/mythic-library)",
        "public domain",
    ),
    "classics_children": (
        "Oz, Alice, Alcott and others (mlschmitt/classic-books-markdown)",
        "public domain in the US",
    ),
    "classics_general_prose_120MB": (
        "general classics (mlschmitt/classic-books-markdown)",
        "public domain in the US",
    ),
}
