import pytest

from keras_diffusion.callbacks import TimeLeft
from keras_diffusion.callbacks.time_left import duration


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self):
        return self.now


def training(epochs, steps, first, step, **options):
    """The lines of a training whose first step takes `first` seconds and the others `step` seconds."""
    clock, lines = Clock(), []
    callback = TimeLeft(clock=clock, write=lines.append, **options)
    callback.set_params({"epochs": epochs, "steps": steps, "verbose": 2})
    callback.on_train_begin()
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        for batch in range(steps):
            clock.now += first if (epoch, batch) == (0, 0) else step
            callback.on_train_batch_end(batch, {"loss": 1.0})
        callback.on_epoch_end(epoch, {"loss": 1.0})
    return lines, callback


def test_compiling_does_not_count():
    lines, callback = training(epochs=4, steps=10, first=100, step=2)
    assert lines[0] == "About 20 s per epoch, 80 s in total."
    assert callback.seconds_per_epoch == pytest.approx(20)


def test_a_short_training_says_little():
    lines, _ = training(epochs=100, steps=5, first=3, step=0.01)
    assert len(lines) == 1 and lines[0].startswith("About 1 s per epoch, 5 s in total")


def test_lines_are_few_in_a_long_training():
    lines, _ = training(epochs=50, steps=100, first=30, step=10)
    assert 10 < len(lines) <= 22
    assert lines[0] == "About 17 min per epoch, 14 h in total."
    assert all(line.startswith("Epoch ") and line.endswith("left.") for line in lines[1:])


def test_an_epoch_of_hours_is_not_silent():
    lines, _ = training(epochs=1, steps=1000, first=30, step=10)
    assert (
        "Epoch 1 of 1: about 2 h 38 min left." in lines
        and lines[0] == "About 2 h 47 min per epoch, 2 h 47 min in total."
    )


def test_advice_comes_where_training_is_long():
    assert "less!" in training(epochs=50, steps=100, first=1, step=10, advice=["less!"])[0]
    assert "less!" not in training(epochs=2, steps=10, first=1, step=1, advice=["less!"])[0]


def test_unknown_number_of_steps():
    clock, lines = Clock(), []
    callback = TimeLeft(clock=clock, write=lines.append)
    callback.set_params({"epochs": 3, "steps": None, "verbose": 2})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    for batch in range(20):
        clock.now += 5
        callback.on_train_batch_end(batch, {})
    assert lines == []
    callback.on_epoch_end(0)
    assert lines == ["About 2 min per epoch, 5 min in total."]


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "1 s"), (59, "59 s"), (200, "3 min"), (12_000, "3 h 20 min"), (150_000, "42 h"), (600_000, "6.9 days")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_every_is_positive():
    with pytest.raises(ValueError, match="must be > 0. Received: every=0"):
        TimeLeft(every=0)
