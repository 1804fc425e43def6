"""The conditions of use: what an image goes through before the model sees it.

`profile` says what a profile is, `shipped` holds those that ship, `operations` changes pixels, `draw` is the
one place where an image is drawn under conditions, `config` is the configuration of the step. Importing this
package loads no Pillow.
"""

from streetvision_core.data.conditions.config import Conditions, ConditionsConfig
from streetvision_core.data.conditions.profile import Level, Operation, Profile
from streetvision_core.data.conditions.shipped import AS_IS, CAMERA, NATIX_CROPS_2025

__all__ = [
    "AS_IS",
    "CAMERA",
    "NATIX_CROPS_2025",
    "Conditions",
    "ConditionsConfig",
    "Level",
    "Operation",
    "Profile",
]
