# git: a commit pushed to a bare repository on the same disk, and a shallow clone of it. There is no network in between.
. ./lib.sh
need git
export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@localhost GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@localhost GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
publish() {
	git -C "$WORK/$1" add . && git -C "$WORK/$1" commit -qm release && git -C "$WORK/$1" push -q "$WORK/$1.git" HEAD:refs/heads/main
}
for ((i = 0; i < ROUNDS; i++)); do
	name=measured-$i
	package "$name"
	git init -q --bare -b main "$WORK/$name.git"
	git init -q -b main "$WORK/$name"
	measure publish publish "$name"
	measure install git clone -q --depth 1 "file://$WORK/$name.git" "$WORK/clone-$i"
done
