// What metrics mean, and the newest of them.

const CHOICE = {binary: "ROCAUC", multiclass: "Accuracy", regression: "MAE"};
const LOWER = new Set(["LogLoss", "MAE", "RMSE", "ECE", "Loss"]);

export const best = (task) => CHOICE[task] ?? "Accuracy";
export const lower = (metric) => LOWER.has(metric);

// By model: its role, window, number of examples and newest metrics in a shard.
export function newest(metrics, shard, kind) {
  const out = {};
  for (const series of metrics?.series ?? []) {
    if (series.shard !== shard || series.kind !== kind) continue;
    const last = series.n.length - 1;
    out[series.model] = {
      role: series.role,
      window: series.window,
      n: series.n[last],
      metrics: Object.fromEntries(Object.entries(series.metrics).map(([name, values]) => [name, values[last]])),
    };
  }
  return out;
}

// Names in the order in which people look for them: the champion, challengers, then baselines.
const RANK = {champion: 0, challenger: 1, baseline: 2};
export const byRole = (a, b) => (RANK[a.role] ?? 1) - (RANK[b.role] ?? 1) || a.model.localeCompare(b.model);
