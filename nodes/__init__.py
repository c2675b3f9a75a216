"""The ComfyUI side: our nodes, in folders by what a user does. Imports nothing, so that what knows nothing of ComfyUI
can be imported without it."""
