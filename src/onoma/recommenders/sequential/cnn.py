"""NextItNet: dilated causal convolutions over item ids."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from onoma.neural.blocks import Trunk
from onoma.neural.noise import Dropout, Noise
from onoma.recommenders.sequential.identity import HeadlessSettings, IdModule, IdRecommender

KERNEL = 3


class ConvolutionBlock(nn.Module):
    """Two causal convolutions, the second twice as far apart, around a residual path."""

    def __init__(self, width: int, dilation: int, dropout: float, noise: Noise) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.far = nn.Conv1d(width, width, KERNEL, dilation=2 * dilation)
        self.before_near, self.before_far = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = Dropout(dropout, noise)

    def forward(self, x: Tensor) -> Tensor:
        """float[b, l, width] to the same."""
        hidden = self._causal(self.near, F.relu(self.before_near(x)))
        out: Tensor = x + self.dropout(self._causal(self.far, F.relu(self.before_far(hidden))))
        return out

    @staticmethod
    def _causal(layer: nn.Conv1d, x: Tensor) -> Tensor:
        behind = (KERNEL - 1) * layer.dilation[0]
        out: Tensor = layer(F.pad(x.transpose(1, 2), (behind, 0)))
        return out.transpose(1, 2)


class ConvolutionTrunk(Trunk):
    """Blocks of dilation 1, 4, 1, 4, ...: every two see 1 + 2 x (1 + 2 + 4 + 8) = 31 items."""

    def __init__(self, module: IdModule) -> None:
        super().__init__()
        s = module.settings
        self.input_dropout = Dropout(s.input_dropout, module.noise)
        self.blocks = nn.ModuleList(
            ConvolutionBlock(s.width, 4 if place % 2 else 1, s.dropout, module.noise)
            for place in range(s.blocks)
        )
        self.norm = nn.LayerNorm(s.width)

    def forward(self, items: Tensor) -> Tensor:
        """float[b, l, d] to the same."""
        x = self.input_dropout(items)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class CNNModule(IdModule):
    """Convolutions over item vectors."""

    def trunk(self) -> Trunk:
        """The convolutions."""
        return ConvolutionTrunk(self)


class CNN(IdRecommender):
    """A simple convolutional generative network for next item recommendation (WSDM 2019).

    Yuan et al.'s NextItNet, with normalisation before each convolution and dropout; ``heads`` is
    not read.
    """

    name = "cnn"
    settings_type = HeadlessSettings
    module_type = CNNModule
