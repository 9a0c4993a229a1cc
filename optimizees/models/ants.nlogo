; Ants search for food, carry it home and lay a trail that others follow.
; Part of l2l_dask (BSD 3-clause). Uses only what NetLogo 4.1 to 6 have in common.

breed [ants ant]

globals [food-collected]  ; units of food brought to the nest

patches-own [
  trail        ; pheromone on this patch
  food         ; units of food left here
  in-nest?
]

ants-own [
  loaded?      ; carries one unit of food
  strength     ; of the pheromone that it lays at its next step
]

to setup
  clear-all
  set-default-shape ants "ant"
  ask patches [
    set in-nest? distancexy 0 0 < 3
    set trail 0
    set food 0
  ]
  lay-out-food
  create-ants population [
    set color red
    set loaded? false
    set strength 0
    set heading random-float 360
  ]
  reset-ticks
  draw
end

; Four heaps around the nest, each in a quarter of its own, at places that differ from seed to seed.
to lay-out-food
  let quarter 0
  repeat 4 [
    let angle 90 * quarter + 15 + random-float 60
    let away 15 + random-float 6
    let x away * sin angle
    let y away * cos angle
    ask patches with [distancexy x y < 2.5] [ set food 8 ]
    set quarter quarter + 1
  ]
end

to go
  ask ants [
    if who < ticks [  ; the nest lets out one ant after the other
      ifelse loaded? [ go-home ] [ search ]
    ]
  ]
  diffuse trail diffusion
  ask patches [ set trail trail * (1 - evaporation) ]
  tick
  if draw-trail? [ draw ]
end

; An ant that carries food knows the way home, and marks it the weaker the longer it has walked.
to go-home
  ifelse in-nest? [
    set food-collected food-collected + 1
    set loaded? false
    rt 180
  ] [
    set trail trail + strength
    set strength strength * persistence
    facexy 0 0
    rt random-float (2 * wiggle) - wiggle
  ]
  walk
end

to search
  ifelse food > 0 [
    set food food - 1
    set loaded? true
    set strength drop
    rt 180
  ] [
    follow-trail
    rt random-float (2 * wiggle) - wiggle
  ]
  walk
end

; Turn to where the trail is strongest, if it is strong enough to be smelled; what leads home counts less.
to follow-trail
  let ahead smell 0
  let left-hand smell (- sniff-angle)
  let right-hand smell sniff-angle
  if max (list ahead left-hand right-hand) > sensitivity [
    if left-hand > ahead and left-hand >= right-hand [ lt sniff-angle ]
    if right-hand > ahead and right-hand > left-hand [ rt sniff-angle ]
  ]
end

to-report smell [angle]
  let place patch-right-and-ahead angle 1.5
  if place = nobody [ report 0 ]
  let outwards? [distancexy 0 0] of place > distancexy 0 0
  report [trail] of place * (ifelse-value outwards? [1] [1 - outward-bias])
end

to walk
  if not can-move? 1 [ rt 180 ]
  fd 1
end

; All patches from the top left to the bottom right: the food that is left on each, or else the trail.
to-report world-map [of-food?]
  let amounts []
  let y max-pycor
  while [y >= min-pycor] [
    let x min-pxcor
    while [x <= max-pxcor] [
      ifelse of-food?
        [ set amounts lput [food] of patch x y amounts ]
        [ set amounts lput [trail] of patch x y amounts ]
      set x x + 1
    ]
    set y y - 1
  ]
  report amounts
end

to draw
  ask patches [
    ifelse food > 0
      [ set pcolor yellow ]
      [ ifelse in-nest? [ set pcolor brown ] [ set pcolor scale-color green trail 0 5 ] ]
  ]
end
@#$#@#$#@
GRAPHICS-WINDOW
230
10
647
448
25
25
8.0
1
10
1
1
1
0
0
0
1
-25
25
-25
25
0
0
1
ticks
30.0

BUTTON
10
10
100
43
NIL
setup
NIL
1
T
OBSERVER
NIL
NIL
NIL
NIL
1

BUTTON
120
10
210
43
NIL
go
T
1
T
OBSERVER
NIL
NIL
NIL
NIL
1

SLIDER
10
55
210
88
population
population
1
200
60
1
1
NIL
HORIZONTAL

SLIDER
10
95
210
128
evaporation
evaporation
0.001
0.5
0.1
0.001
1
NIL
HORIZONTAL

SLIDER
10
135
210
168
diffusion
diffusion
0
1
0.5
0.01
1
NIL
HORIZONTAL

SLIDER
10
175
210
208
drop
drop
0.1
100
10
0.1
1
NIL
HORIZONTAL

SLIDER
10
215
210
248
persistence
persistence
0.5
1
0.9
0.01
1
NIL
HORIZONTAL

SLIDER
10
255
210
288
sensitivity
sensitivity
0.001
10
0.05
0.001
1
NIL
HORIZONTAL

SLIDER
10
295
210
328
wiggle
wiggle
0
90
40
1
1
degrees
HORIZONTAL

SLIDER
10
335
210
368
sniff-angle
sniff-angle
5
90
45
1
1
degrees
HORIZONTAL

SLIDER
10
375
210
408
outward-bias
outward-bias
0
1
0
0.05
1
NIL
HORIZONTAL

SWITCH
10
415
210
448
draw-trail?
draw-trail?
1
1
-1000

MONITOR
10
455
210
500
NIL
food-collected
0
1
11

@#$#@#$#@
WHAT IS IT?
-----------
A colony of ants that forages. An ant without food walks about at random, unless it smells a trail of pheromone and
follows it; one that has found food carries it home and lays the trail. The pheromone spreads and evaporates.

food-collected counts the units of food that reached the nest. Where the four heaps of food lie is drawn anew by setup.

@#$#@#$#@
default
true
0
Polygon -7500403 true true 150 20 60 270 150 220 240 270

ant
true
0
Circle -7500403 true true 120 30 60
Circle -7500403 true true 125 100 50
Circle -7500403 true true 105 160 90

@#$#@#$#@
NetLogo 4.1.3
@#$#@#$#@
@#$#@#$#@
@#$#@#$#@
@#$#@#$#@
@#$#@#$#@
default
0.0
-0.2 0 0.0 1.0
0.0 1 1.0 0.0
0.2 0 0.0 1.0
link direction
true
0
Line -7500403 true 150 150 100 200
Line -7500403 true 150 150 200 200

@#$#@#$#@
