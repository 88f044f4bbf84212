"""Makes the sample catalogue in `agpis/sample/`: a developer's script, not shipped. See `render.py`."""
