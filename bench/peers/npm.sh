# npm: packages published to a registry on this machine (verdaccio), and installed from it with an empty cache.
# To have it: npm install --global verdaccio (where a registry does not serve the tag that one of its
# dependencies names, in a folder whose package.json has overrides for that).
. ./lib.sh
need npm
need verdaccio
need curl
echo "# npm: $(npm --version), verdaccio $(verdaccio --version)"
daemons=()
cleanup() { for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done; }
registry=http://127.0.0.1:14873
cat >"$WORK/verdaccio.yaml" <<-CONFIG
	storage: $WORK/storage
	auth: {htpasswd: {file: $WORK/htpasswd}}
	uplinks: {}
	packages: {'**': {access: \$all, publish: \$authenticated}}
	log: {type: file, path: $WORK/verdaccio.log, level: warn}
	max_body_size: 100mb
CONFIG
verdaccio --config "$WORK/verdaccio.yaml" --listen 127.0.0.1:14873 >/dev/null 2>&1 &
daemons+=($!)
until curl -fs "$registry/-/ping" >/dev/null; do sleep 0.1; done
token=$(curl -fs -X PUT "$registry/-/user/org.couchdb.user:bench" -H 'content-type: application/json' -d '{"name":"bench","password":"only-for-this-run"}' | grep -o '"token": *"[^"]*"' | cut -d'"' -f4)
export npm_config_userconfig=$WORK/npmrc npm_config_registry=$registry npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_loglevel=error
echo "//127.0.0.1:14873/:_authToken=$token" >"$WORK/npmrc"
round() {
	local kind=$1 name=$2 what=$3
	"$kind" "$name"
	printf '{"name":"%s","version":"1.0.0"}' "$name" >"$WORK/$name/package.json"
	(cd "$WORK/$name" && measure "publish$what" npm publish)
	mkdir "$WORK/project-$name"
	(cd "$WORK/project-$name" && echo '{}' >package.json && npm_config_cache=$WORK/cache-$name measure "install$what" npm install "$name")
}
for ((i = 0; i < ROUNDS; i++)); do
	round package "measured-$i" ""
	round many "many-$i" -302-files
done
