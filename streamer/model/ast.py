"""The Audio Spectrogram Transformer as a network of torch, with the frame head.

Gong, Chung, Glass: AST: Audio Spectrogram Transformer, https://arxiv.org/abs/2104.01778; the fields of the
configuration and the arithmetic are those of Hugging Face's `ASTForAudioClassification`.

Shapes: B windows, T fbank frames, M mel bins, H hidden size, N labels; patches lie on a grid of f frequency
rows and t time steps and are numbered row by row, as the convolution of the published model numbers them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamer.model.config import ASTConfig


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _laplace(x: Tensor) -> Tensor:
    # Ma et al., https://arxiv.org/abs/2209.10655: an error function that stands in for the square of a ReLU.
    return 0.5 * (1 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2))))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_python": F.gelu,
    "gelu_10": lambda x: F.gelu(x).clamp(-10, 10),
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "swish": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sqrtsoftplus": lambda x: F.softplus(x).sqrt(),
    "laplace": _laplace,
    "linear": lambda x: x,
}
"""by the names of `config.ACTIVATIONS`"""


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q k' / sqrt(d)) v: (B, heads, m, d) and two of (B, heads, n, d) -> (B, m, heads, d)."""
    if dropout or not (q.is_cpu and q.dtype is torch.bfloat16):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2)
    # Without AMX the fused kernel has a third of the rate at which bfloat16 matrices are multiplied, and less
    # backwards anywhere.
    if not torch.is_inference_mode_enabled():
        products = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return torch.matmul(products.softmax(dim=-1, dtype=q.dtype), v).transpose(1, 2)
    if torch.cpu._is_amx_tile_supported():  # the fused kernel alone is a quarter faster here
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    # Head by head, with one matrix of weights that is used again and stays in the cache, it is twice as fast.
    b, heads, m, d = q.shape
    out, weights = q.new_empty(b, m, heads, d), q.new_empty(m, k.shape[2])
    for i in range(b):
        for j in range(heads):
            torch.addmm(weights, q[i, j], k[i, j].T, beta=0, alpha=d**-0.5, out=weights)
            torch.softmax(weights, dim=-1, out=weights)
            torch.mm(weights, v[i, j], out=out[i, :, j])
    return out


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.n_heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, m: int | None = None) -> Tensor:
        """(B, n, H) -> (B, m, H): what the first m tokens (all of them where None) see in all."""
        b, n, h = x.shape
        # (B, n, 3H) -> three of (B, heads, n, H / heads), as views
        q, k, v = self.qkv(x).view(b, n, 3, self.n_heads, h // self.n_heads).permute(2, 0, 3, 1, 4)
        x = attend(q[:, :, :m], k, v, self.dropout if self.training else 0.0)
        return self.out(x.flatten(2))  # type: ignore[no-any-return]  # nn.Module.__call__


class Block(nn.Module):
    """A transformer layer with the norm before each half."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.norm_mlp = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, m: int | None = None) -> Tensor:
        """(B, n, H) -> (B, m, H): the first m tokens (all of them where None)."""
        x = x[:, :m] + self.dropout(self.attention(self.norm_attention(x), m))
        return x + self.dropout(self.down(self.activation(self.up(self.norm_mlp(x)))))  # type: ignore[no-any-return]


class FrameHead(nn.Module):
    """Patch tokens to scores of each time step: pooled over frequency, then convolved over time.

    After AST-SED (Li et al., https://arxiv.org/abs/2303.03689), with a convolution in place of its
    recurrent decoder.
    """

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        h = config.hidden_size
        self.weight = nn.Linear(h, 1)
        self.pool = nn.Linear(2 * h, h)
        self.neighbours = nn.Conv1d(h, h, kernel_size=5, padding=2)
        self.norm = nn.LayerNorm(h, eps=1e-6)
        self.dense = nn.Linear(h, len(config.id2label))

    def forward(self, patches: Tensor) -> Tensor:
        """(B, f, t, H) -> (B, t, N) logits."""
        return self.dense(self.steps(patches))  # type: ignore[no-any-return]

    def steps(self, patches: Tensor) -> Tensor:
        """(B, f, t, H) -> (B, t, H): embeddings, of which the logits are a linear function."""
        weighted = (patches * self.weight(patches).softmax(dim=1)).sum(dim=1)
        x = F.gelu(self.pool(torch.cat((patches.mean(dim=1), weighted), dim=-1)))  # (B, t, H)
        x = x + F.gelu(self.neighbours(x.transpose(1, 2))).transpose(1, 2)
        return self.norm(x)  # type: ignore[no-any-return]


class AST(nn.Module):
    """`(B, T, M)` normalised fbank to `(B, N)` logits of the window and, with a frame head, `(B, t, N)`."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.config = config
        h, (f, t) = config.hidden_size, config.grid
        self.patch = nn.Linear(config.patch_size**2, h)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, h))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, h))
        self.position = nn.Parameter(torch.zeros(1, f * t + 2, h))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(h, eps=config.layer_norm_eps)
        self.head_norm = nn.LayerNorm(h, eps=config.layer_norm_eps)
        self.head = nn.Linear(h, len(config.id2label))
        self.frame_head = FrameHead(config) if config.frame_head else None
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def patches(self, x: Tensor) -> Tensor:
        """(B, T, M) -> (B, f * t, p * p): the convolution's input as rows of a matrix."""
        p = self.config.patch_size
        # (B, t, f, p of time, p of frequency)
        x = x.unfold(1, p, self.config.time_stride).unfold(2, p, self.config.frequency_stride)
        return x.permute(0, 2, 1, 4, 3).reshape(x.shape[0], -1, p * p)  # frequency first, outside and inside

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of the window and of its time steps."""
        return self.classify(self.tokens(x), self.config.grid[1])

    def tokens(self, x: Tensor, keep: Tensor | None = None, start: Tensor | None = None) -> Tensor:
        """(B, 2 + k * t, H): the two class tokens and the patches, after the last norm.

        For training: `keep` (B, k, t) numbers the k frequency rows to keep at each time step; the other
        patches are dropped, which makes a step cheaper and the model sturdier. `start` (B,) says at which
        time step of a window each crop begins; x is then shorter than a window.
        """
        b, h, f = x.shape[0], self.config.hidden_size, self.config.grid[0]
        tokens = self.patch(self.patches(x))
        t = tokens.shape[1] // f
        tokens = tokens + self._positions(t, start)
        if keep is not None:
            index = (keep * t + torch.arange(t, device=x.device)).flatten(1)  # (B, k * t)
            tokens = tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, h))
        heads = torch.cat((self.cls_token, self.distillation_token), dim=1) + self.position[:, :2]
        tokens = self.dropout(torch.cat((heads.expand(b, -1, -1).to(tokens.dtype), tokens), dim=1))
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        # Without a frame head the patch tokens are not needed.
        tokens = self.blocks[-1](tokens, 2 if self.frame_head is None else None)
        return self.norm(tokens)  # type: ignore[no-any-return]

    def classify(self, tokens: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """Logits of the window (B, N) and of its t time steps (B, t, N), from `tokens`."""
        logits, frames, _ = self.classify_and_embed(tokens, t)
        return logits, frames

    def classify_and_embed(self, tokens: Tensor, t: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """As `classify`, with the embeddings of the time steps (B, t, H), or of the window (B, 1, H)."""
        middle = self.head_norm((tokens[:, 0] + tokens[:, 1]) / 2)
        logits = self.head(middle)
        if self.frame_head is None:
            return logits, None, middle[:, None]
        steps = self.frame_head.steps(tokens[:, 2:].reshape(len(tokens), -1, t, self.config.hidden_size))
        return logits, self.frame_head.dense(steps), steps

    def _positions(self, t: int, start: Tensor | None) -> Tensor:
        """(1, f * t, H), or (B, f * t, H) where crops begin at different time steps."""
        if start is None:
            return self.position[:, 2:]
        grid = self.position[0, 2:].view(*self.config.grid, -1)  # (f, T, H)
        steps = start[:, None] + torch.arange(t, device=start.device)
        positions: Tensor = grid[:, steps].transpose(0, 1).flatten(1, 2)
        return positions

    @torch.no_grad()
    def start_from_scratch(self, prior: float = 0.007) -> None:
        """Random weights that train well: positions as 2-D sines, heads that expect `prior` at first."""
        f, t = self.config.grid
        quarter = self.config.hidden_size // 4
        omega = torch.exp(-math.log(10_000.0) * torch.arange(quarter) / quarter)
        rows, steps = torch.arange(f).float().outer(omega), torch.arange(t).float().outer(omega)
        rows, steps = rows[:, None].expand(f, t, -1), steps[None].expand(f, t, -1)
        grid = torch.cat((rows.sin(), rows.cos(), steps.sin(), steps.cos()), dim=-1).flatten(0, 1)
        self.position[0, 2:, : 4 * quarter] = 0.5 * grid
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.distillation_token, std=0.02)
        for head in (self.head, self.frame_head.dense if self.frame_head else None):
            if head is not None:
                head.bias.fill_(math.log(prior / (1 - prior)))
