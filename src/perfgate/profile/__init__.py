"""What does one call do, operator by operator and kernel by kernel? Captured in a pass that nobody times."""

from perfgate.profile.torch_profile import Operator, Profile, Span, capture

__all__ = ["Operator", "Profile", "Span", "capture"]
