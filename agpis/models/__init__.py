"""The only home of nn.Module: image towers, single-image heads, the multi-image model."""
