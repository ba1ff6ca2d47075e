"""The page's Python side: handlers, widgets, what the browser is sent. No gradio: app.py wires it.

No decoding and no arithmetic on measurements happens here.

A prompt's way from the button to the screen:

1. ``app.py`` connects the button Run to ``handlers.run``, and passes on what the form holds.
2. ``form.settings`` makes that into ``Settings``, one for each lane that guesses.
3. ``live_race.race`` gets the pair from ``loaded_pairs`` and adds a lane for the target alone;
   ``live_race.batches`` has the race run in the one thread that computes (``engine_thread``).
4. ``measuring.race.race`` gives each step to the lane whose clock is furthest behind.
5. Its ``Runner`` builds the drafter, sampler and verifier of the lane, and calls the loop.
6. ``decoding.engine.generate`` is the loop: propose, verify, accept, commit.
7. ``decoding.recorder`` makes a record of each step: its tokens, their statuses, probabilities.
8. ``stage_value.LiveValue`` collects the records; ``packed_trace.line`` makes a line of each.
9. ``app.py`` hands the value to gradio, which sends the browser what is new in it.
10. ``assets/page/trace/fold.js`` unpacks the lines, and ``assets/page/stage/stage.js`` draws them.
"""
