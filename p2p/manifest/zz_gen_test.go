package manifest_test

import (
	"fmt"
	"os"
	"testing"
)

func TestGen(t *testing.T) {
	os.MkdirAll("testdata/fuzz/FuzzParse", 0o755)
	for name, text := range map[string]string{
		"plain":             "[package]\nname = 'a'\nversion = '1.0.0'\ndependencies = ['b@^1', 'c']\n",
		"tables":            "[package]\nname='a'\nversion='1.0.0'\n[package.tags]\ntags=['x']\n[package.dependencies]\nb={version='>=1, <2', optional=true}\n[marketplace.dependencies]\nc='*'\n",
		"multi-line":        "[package]\nname='a'\nversion='1.0.0'\ndescription=\"\"\"\\\n  {\n \"\"\"\"\"\n",
		"inline-over-lines": "[package]\nname='a'\nversion='1.0.0'\nx = {\n a = 1,\n}\n",
		"unfinished-string": "x = {\"\"\"\n",
		"nesting":           "a = [[[[[[[[{a={a={a=[{",
		"pessimistic":       "[package]\nname='a'\nversion='1.0.0'\ndependencies=['b@~>1.2']\n",
		"dates":             "[package]\nname='a'\nversion='1.0.0'\nd=2026-11-23\nt=07:32:00\nf=nan\ni=0x10\n",
	} {
		if err := os.WriteFile("testdata/fuzz/FuzzParse/"+name, []byte(fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
