# kubo: not measured yet. What belongs here is publish and install of `package` with `measure`, like git.sh.
. ./lib.sh
need ipfs
echo "# kubo: skipped: nobody has written this yet"
