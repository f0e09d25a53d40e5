"""Transfer learning as a DVC pipeline: one module per stage, named as the stage; the rest is what the stages share."""
