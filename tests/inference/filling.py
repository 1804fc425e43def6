"""Runs that fill the feature cache in processes of their own, which can be killed as a user's run is."""

import os
import signal

from tests.training.runs import LOADED
from tests.training.toy import make_toy

ROWS_A_SHARD = 32


def start(checkpoint, cache, *, role, reverse=False, kill_at_shard=None, begin=None):
    """Fill the plain features of a role in another process."""
    arguments = {"role": role, "reverse": reverse, "kill_at_shard": kill_at_shard, "begin": begin}
    process = LOADED.Process(target=_fill, args=(checkpoint, cache), kwargs=arguments)
    process.start()
    return process


def barrier(parties):
    return LOADED.Barrier(parties)


def toy_of_the_cache():
    return make_toy(train=110, others=40)


def fill(checkpoint, cache, names, toy, **settings):
    """The features of the named images as `predict_role` asks for them."""
    from streetvision_core.inference.cached_features import feature_key, image_features
    from streetvision_core.models.preprocessing import eval_transform

    transform = settings.pop("transform", None) or eval_transform(checkpoint.config["pretrained_cfg"])
    images, model = settings.pop("images", toy.reader), checkpoint.load_model()
    key = feature_key(model, transform, config=checkpoint.config, device="cpu")
    given = {"transform": transform, "key": key, "cache": cache, "device": "cpu"}
    return image_features(model, names, images, **given, **settings)


def _fill(checkpoint, cache, *, role, reverse, kill_at_shard, begin):
    import torch

    from streetvision_core.inference import cached_features as features
    from streetvision_core.inference import feature_cache

    torch.set_num_threads(1)
    feature_cache.SHARD_ROWS = features.SHARD_ROWS = ROWS_A_SHARD
    if kill_at_shard is not None:
        _die_at(kill_at_shard)
    toy = toy_of_the_cache()
    names = toy.splits.roles[role]
    if begin is not None:
        begin.wait()
    fill(checkpoint, cache, names[::-1] if reverse else names, toy)


def _die_at(shard):
    """Die of SIGKILL when the shard of this number, from 0, is about to get its name."""
    replaced, original = [], os.replace

    def replace(source, target, **settings):
        if str(target).endswith(".npy"):
            if len(replaced) == shard:
                os.kill(os.getpid(), signal.SIGKILL)
            replaced.append(target)
        return original(source, target, **settings)

    os.replace = replace
