package manifest_test

import (
	"strings"
	"testing"
	"runtime"

	"ggen.dev/marketplace/p2p/manifest"
)

func TestProbe(t *testing.T) {
	for n, s := range map[string]string{
		"array": "a = " + strings.Repeat("[", 250_000) ,
		"closed": "a = " + strings.Repeat("[", 120_000)+ strings.Repeat("]", 120_000) ,
		"inline": "a = " + strings.Repeat("{a=", 80_000),
		"dotted": strings.Repeat("a.", 120_000) + "a = 1",
		"header": "[" + strings.Repeat("a.", 120_000) + "a]",
		"longextra": "[package]\nname='a'\nversion='1.0.0'\nx='" + strings.Repeat("y", 200_000) + "'",
		"ctrl": "[package]\nname='a'\nversion='1.0.0'\ndescription=\"a\\u001b[31m\\u202e\"",
	} {
		var b, a runtime.MemStats
		runtime.ReadMemStats(&b)
		m, err := manifest.Parse("package.toml", []byte(s))
		runtime.ReadMemStats(&a)
		e := ""
		if err != nil { e = err.Error(); if len(e) > 150 { e = e[:150] } } else { t.Logf("%d %q", len(m.Extra["x"]), m.Description) }
		t.Logf("%s: %s; %d MiB", n, e, (a.TotalAlloc-b.TotalAlloc)>>20)
	}
}
