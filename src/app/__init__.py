"""Pages of the web app. They show what src.runs reads; training never knows that they exist."""
