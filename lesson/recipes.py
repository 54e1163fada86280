"""How to train which kind of model: the recipes, and the settings that follow from them."""

import math
from argparse import Namespace
from typing import Any, NamedTuple

from mlx import nn

from lesson.models import embedding_shape


class Recipe(NamedTuple):
    """How to train a kind of model."""

    rate_by_width: float  # the learning rate times the model's width
    examples: int  # seen in all, each several times
    rehearsed: int  # everyday prompts in each step
    rehearsal_weight: float  # of their loss, beside that of the learner's examples


# Chosen by what was tried: more/measured_recipes.tsv. There the narrow one saw 700 examples; its
# second edition did about as well with 560, on eight subjects with three seeds each, and sooner.
RECIPES = {
    "narrow": Recipe(0.6, 560, 2, 1.0),  # less than 512 wide, as the one that it comes with
    "base": Recipe(0.3, 240, 4, 4.0),
    "chat": Recipe(0.42, 240, 2, 4.0),
}


def recipe_for(width: int, chat: bool) -> Recipe:
    """The Recipe for a model of that width and kind.

    Measured at widths of 256, 576 and 640 (more/measured_recipes.tsv). That the rate falls as the
    width grows is a rule of thumb through these, not measured for wider models.
    """
    return RECIPES["narrow" if width < 512 else "chat" if chat else "base"]


def steps_for(examples: int, batch_size: int, seen: int) -> int:
    """Steps in which so many examples are `seen` in all; each at least 3 and at most 30 times."""
    passes = min(max(seen / examples, 3), 30)
    return math.ceil(passes * math.ceil(examples / batch_size))


def rate_for(recipe: Recipe, width: int, fine_tune_type: str) -> float:
    """The learning rate: less for wider models, and for whole weights a third of it.

    Schulman et al. ("LoRA Without Regret", 2025) found LoRA's best rate ten times as high as that
    of whole weights; on a small model and few steps, a third was better than a tenth.
    """
    return recipe.rate_by_width / width / (3 if fine_tune_type == "full" else 1)


def training_settings(
    options: Namespace, model: nn.Module, chat: bool, examples: int
) -> dict[str, Any]:
    """What fine_tune() takes, by name. What the options leave open goes by the recipe.

    The steps then go by how many examples there are, the learning rate by the model's width.
    """
    width = embedding_shape(model)[1]
    recipe = recipe_for(width, chat)
    iters = options.iters or steps_for(examples, options.batch_size, recipe.examples)
    return {
        "iters": iters,
        "steps_per_eval": max(iters // 5, 1),
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate or rate_for(recipe, width, options.fine_tune_type),
        "rehearsed": recipe.rehearsed,
        "rehearsal_weight": recipe.rehearsal_weight,
        "seed": options.seed,
        "num_layers": options.num_layers or min(16, len(model.layers)),
        "fine_tune_type": options.fine_tune_type,
        "grad_checkpoint": options.grad_checkpoint,
        "resume_adapter_file": options.resume_adapter_file,
    }
