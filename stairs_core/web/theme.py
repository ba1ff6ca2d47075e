"""The look of the widgets: system fonts, and colours named in assets/page/styles/stage.css."""

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

_BOTH = {
    "body_background_fill": "bg",
    "body_text_color": "ink",
    "body_text_color_subdued": "soft",
    "background_fill_primary": "panel",
    "background_fill_secondary": "bg",
    "border_color_primary": "line",
    "border_color_accent": "focus",
    "color_accent_soft": "grid",
    "block_background_fill": "panel",
    "block_border_color": "line",
    "block_info_text_color": "soft",
    "block_label_background_fill": "panel",
    "block_label_text_color": "soft",
    "block_title_text_color": "soft",
    "input_background_fill": "bg",
    "input_background_fill_focus": "bg",
    "input_border_color": "edge",
    "input_border_color_focus": "focus",
    "input_placeholder_color": "soft",
    "button_primary_background_fill": "acc",
    "button_primary_background_fill_hover": "acc",
    "button_primary_text_color": "panel",
    "button_primary_text_color_hover": "panel",
    "button_secondary_background_fill": "panel",
    "button_secondary_background_fill_hover": "grid",
    "button_secondary_border_color": "edge",
    "button_secondary_text_color": "ink",
    "button_secondary_text_color_hover": "ink",
    "slider_color": "acc",
    "checkbox_background_color": "bg",
    "checkbox_background_color_selected": "acc",
    "checkbox_border_color": "edge",
    "checkbox_border_color_selected": "acc",
    "checkbox_label_background_fill": "panel",
    "checkbox_label_background_fill_hover": "panel",
    "checkbox_label_background_fill_selected": "panel",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
}


def theme() -> dict[str, str]:
    """For ``gradio.themes.Base.set``: each colour for the light and for the dark theme."""
    colours = {key: f"var(--st-{name})" for key, name in _BOTH.items()}
    return {
        **colours,
        **{f"{key}_dark": colour for key, colour in colours.items()},
        "block_shadow": "none",
        "block_shadow_dark": "none",
        "block_label_text_size": "13px",
        "block_title_text_size": "13px",
        "button_transition": "none",
    }
