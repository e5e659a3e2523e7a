# npm: not measured yet. What belongs here is publish and install of `package` with `measure`, like git.sh.
. ./lib.sh
need verdaccio
echo "# npm: skipped: nobody has written this yet"
