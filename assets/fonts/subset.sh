#!/bin/sh
# Rebuilds DejaVuSans-subset.ttf, the font of the figures, from DejaVu Sans 2.37.
# Needs fonttools (pip install fonttools); usage: assets/fonts/subset.sh PATH/TO/DejaVuSans.ttf
set -eu
here=$(dirname "$0")
characters=U+0020-007E,U+00A0-00FF                           # ASCII, Latin-1
characters=$characters,U+0391-03A1,U+03A3-03A9,U+03B1-03C9   # Greek
characters=$characters,U+2010,U+2013,U+2014,U+2018,U+2019,U+201C,U+201D,U+2026
characters=$characters,U+2070,U+2074-2079,U+207A,U+207B,U+2080-2089   # superscripts, subscripts
characters=$characters,U+2190-2193,U+2202,U+2206,U+2211,U+2212,U+221A,U+221E,U+2248,U+2260,U+2264,U+2265
pyftsubset "$1" --unicodes="$characters" --no-hinting --layout-features='' \
    --drop-tables+=GDEF,GPOS,GSUB,MATH,FFTM --name-IDs=0,1,2,3,4,5,6,13,14 \
    --output-file="$here/DejaVuSans-subset.ttf"
