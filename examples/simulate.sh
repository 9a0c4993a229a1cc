#!/bin/sh
# A simulation in any language. Its last line of output is the fitness: here the error of x**2 + y**2 = 1, x = y.
# usage: simulate.sh X Y
awk -v x="$1" -v y="$2" 'BEGIN { print (x * x + y * y - 1) ^ 2 + (x - y) ^ 2 }'
