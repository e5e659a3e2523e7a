# git: a commit pushed to a bare repository on the same disk, and a shallow clone of it from a daemon on this machine.
. ./lib.sh
need git
daemons=()
cleanup() { for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done; }
export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@localhost GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@localhost GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
[[ -x $(git --exec-path)/git-daemon ]] || { echo "# git: skipped: git was built without its daemon"; exit 0; }
echo "# git: $(git --version)"
"$(git --exec-path)/git-daemon" --base-path="$WORK" --export-all --listen=127.0.0.1 --port=19418 --reuseaddr >/dev/null 2>&1 &
daemons+=($!)
publish() {
	git -C "$WORK/$1" add . && git -C "$WORK/$1" commit -qm release && git -C "$WORK/$1" push -q "$WORK/$1.git" HEAD:refs/heads/main
}
round() {
	local kind=$1 name=$2 what=$3
	"$kind" "$name"
	git init -q --bare -b main "$WORK/$name.git"
	git init -q -b main "$WORK/$name"
	measure "publish$what" publish "$name"
	measure "install$what" git clone -q --depth 1 "git://127.0.0.1:19418/$name.git" "$WORK/clone-$name"
}
for ((i = 0; i < ROUNDS; i++)); do
	round package "measured-$i" ""
	round many "many-$i" -302-files
done
