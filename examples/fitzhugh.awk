#!/usr/bin/awk -f
# A FitzHugh-Nagumo neuron: fitzhugh.awk NEURON.cfg
# Prints what it does, and writes how far that is from what the file wants to error.json.
# FitzHugh, Biophysical Journal 1, 1961: dv/dt = v - v^3/3 - w + I,  dw/dt = (v + a - b w) / tau

$2 == "=" { value[$1] = $3 }

END {
    v = -1; w = -0.5; dt = 0.02; spikes = 0; highest = lowest = v
    for (t = 0; t < 300; t += dt) {
        before = v
        v += dt * (v - v * v * v / 3 - w + value["current"])
        w += dt * (before + value["a"] - value["b"] * w) / value["tau"]
        if (t < 100) continue
        if (before < 0 && v >= 0) { if (!spikes++) first = t; last = t }
        if (v > highest) highest = v
        if (v < lowest) lowest = v
        above += dt * (v > 0)
    }
    period = spikes > 1 ? (last - first) / (spikes - 1) : 200
    printf "period %.3f width %.3f peak %.3f trough %.3f\n", period, spikes ? above / spikes : 0, highest, lowest
    error = abs(period - value["period"]) / 1.0 + abs(highest - value["peak"]) / 0.05 \
        + abs(lowest - value["trough"]) / 0.05 + abs((spikes ? above / spikes : 0) - value["width"]) / 0.5
    printf "{\"error\": %.6g}\n", error > "error.json"
}

function abs(x) { return x < 0 ? -x : x }
