// The decoder: values v and their tangents, one list per direction, go through the steps together.
const DATA = JSON.parse(document.getElementById("data").textContent);

function floats(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
  return { shape: packed.shape, a: Float64Array.from(new Float32Array(bytes.buffer)) };
}

for (const step of DATA.steps)
  for (const name of ["kernel", "bias", "scale"]) if (step[name]) step[name] = floats(step[name]);

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const SELU = [1.0507009873554805, 1.6732632423543772], C = Math.sqrt(2 / Math.PI);
function elu(x, a) { return x > 0 ? [x, 1] : [a * Math.expm1(x), a * Math.exp(x)]; }
// name -> x -> [value, derivative]
const ACTIVATIONS = {
  identity: (x) => [x, 1],
  relu: (x) => [Math.max(x, 0), x > 0 ? 1 : 0],
  leaky_relu: (x) => (x >= 0 ? [x, 1] : [0.01 * x, 0.01]),
  elu: (x) => elu(x, 1),
  selu: (x) => elu(x, SELU[1]).map((v) => SELU[0] * v),
  sigmoid: (x) => { const s = sigmoid(x); return [s, s * (1 - s)]; },
  silu: (x) => { const s = sigmoid(x); return [x * s, s * (1 + x * (1 - s))]; },
  sin: (x) => [Math.sin(x), Math.cos(x)],
  softplus: (x) => [softplus(x), sigmoid(x)],
  tanh: (x) => { const t = Math.tanh(x); return [t, 1 - t * t]; },
  mish: (x) => { const t = Math.tanh(softplus(x)); return [x * t, t + x * (1 - t * t) * sigmoid(x)]; },
  gelu: (x) => {
    const t = Math.tanh(C * (x + 0.044715 * x ** 3));
    return [0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * C * (1 + 3 * 0.044715 * x * x)];
  },
};

function dense({ kernel, bias }, x, withBias) {
  const [n, m] = kernel.shape, y = withBias ? Float64Array.from(bias.a) : new Float64Array(m);
  for (let i = 0; i < n; i++) {
    const xi = x[i], at = i * m;
    if (xi !== 0) for (let j = 0; j < m; j++) y[j] += xi * kernel.a[at + j];
  }
  return y;
}

function conv(step, x, withBias) {
  const [rows, columns, inputs, outputs] = step.kernel.shape, [h, w] = step.from, [H, W] = step.to;
  const y = new Float64Array(H * W * outputs), k = step.kernel.a;
  if (withBias) for (let i = 0; i < y.length; i++) y[i] = step.bias.a[i % outputs];
  for (let p = 0; p < h; p++) for (let q = 0; q < w; q++)
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) {
      const r = p * step.stride + i - step.pads[0], c = q * step.stride + j - step.pads[1];
      if (r < 0 || c < 0 || r >= H || c >= W) continue;
      for (let a = 0; a < inputs; a++) {
        const v = x[(p * w + q) * inputs + a], at = ((i * columns + j) * inputs + a) * outputs;
        for (let o = 0; o < outputs; o++) y[(r * W + c) * outputs + o] += v * k[at + o];
      }
    }
  return y;
}

function layernorm({ scale, bias }, v, tangents) {
  const n = scale.a.length, y = new Float64Array(v.length), out = tangents.map(() => new Float64Array(v.length));
  for (let at = 0; at < v.length; at += n) {
    let mean = 0, square = 0;
    for (let i = 0; i < n; i++) mean += v[at + i] / n;
    for (let i = 0; i < n; i++) square += (v[at + i] - mean) ** 2 / n;
    const s = 1 / Math.sqrt(square + 1e-5);
    for (let i = 0; i < n; i++) y[at + i] = (v[at + i] - mean) * s * scale.a[i] + bias.a[i];
    tangents.forEach((t, d) => {
      let m = 0, along = 0;
      for (let i = 0; i < n; i++) { m += t[at + i] / n; along += ((v[at + i] - mean) * s * t[at + i]) / n; }
      for (let i = 0; i < n; i++) out[d][at + i] = s * scale.a[i] * (t[at + i] - m - (v[at + i] - mean) * s * along);
    });
  }
  return [y, out];
}

// The mean of a logistic variable cut to [0, 1], with its derivatives by location and log scale.
function logistic(m, logScale) {
  const s = Math.exp(logScale), a = m / s, b = (m - 1) / s, A = softplus(a), B = softplus(b);
  return [s * (A - B), sigmoid(a) - sigmoid(b), s * (A - B - a * sigmoid(a) + b * sigmoid(b))];
}

function link(step, v, tangents) {
  const n = v.length / step.channels, y = new Float64Array(n), out = tangents.map(() => new Float64Array(n));
  for (let i = 0; i < n; i++) {
    const at = i * step.channels;
    if (step.name !== "logistic") {
      const [value, slope] = ACTIVATIONS[step.name](v[at]);
      y[i] = value;
      tangents.forEach((t, d) => { out[d][i] = slope * t[at]; });
      continue;
    }
    const own = step.channels > 1, raw = step.log_scale + (own ? v[at + 1] : 0);
    const [value, by, byScale] = logistic(v[at], Math.min(Math.max(raw, -20), 10));
    const free = own && raw > -20 && raw < 10 ? 1 : 0;
    y[i] = value;
    tangents.forEach((t, d) => { out[d][i] = by * t[at] + (free ? byScale * t[at + 1] : 0); });
  }
  return [y, out];
}

// decode(z, label, dims) -> [mean, [d mean / d z_i for i in dims]]
function decode(z, label = 0, dims = []) {
  let v = Float64Array.from([...z, ...(DATA.classes ? DATA.hot[label] : [])]);
  let tangents = dims.map((d) => { const t = new Float64Array(v.length); t[d] = 1; return t; });
  for (const step of DATA.steps) {
    if (step.kind === "dense" || step.kind === "conv") {
      const run = step.kind === "dense" ? dense : conv;
      [v, tangents] = [run(step, v, true), tangents.map((t) => run(step, t, false))];
    } else if (step.kind === "affine") {
      const n = step.scale.a.length;
      v = v.map((x, i) => x * step.scale.a[i % n] + step.bias.a[i % n]);
      tangents = tangents.map((t) => t.map((x, i) => x * step.scale.a[i % n]));
    } else if (step.kind === "layernorm") [v, tangents] = layernorm(step, v, tangents);
    else if (step.kind === "link") [v, tangents] = link(step, v, tangents);
    else {
      const slopes = new Float64Array(v.length);
      v = v.map((x, i) => { const [y, d] = ACTIVATIONS[step.name](x); slopes[i] = d; return y; });
      tangents = tangents.map((t) => t.map((x, i) => x * slopes[i]));
    }
  }
  return [v, tangents];
}
