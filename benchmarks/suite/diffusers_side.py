"""diffusers on torch: the loop of its DDIM pipeline, without turning tensors into PIL images."""

import diffusers
import torch


def write_weights(case, folder):
    torch.manual_seed(0)
    model = getattr(diffusers, case.network)(**case.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder)


def sample(case, weights):
    model = getattr(diffusers, case.network).from_pretrained(weights).eval()
    scheduler = diffusers.DDIMScheduler(
        prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2", clip_sample=False
    )

    def run():
        generator = torch.Generator().manual_seed(0)
        height, width, channels = case.shape
        x = torch.randn((case.batch, channels, height, width), generator=generator)
        scheduler.set_timesteps(case.steps)
        with torch.no_grad():
            for t in scheduler.timesteps:
                x = scheduler.step(model(x, t).sample, t, x).prev_sample
        return x.clamp(-1, 1).permute(0, 2, 3, 1).numpy()

    return run
