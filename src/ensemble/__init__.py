"""An experiment as a whole: its runs gathered, blended, submitted, made again."""
