"""OpenAI's improved-diffusion and guided-diffusion: unet.py is the family, config.py what shapes and flags tell."""
