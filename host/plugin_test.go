package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/rogpeppe/go-internal/testscript"

	"ggen.dev/marketplace/shared"
)

// engineCommand writes an engine file, which nobody could execute, and its
// checksum: engine DIR VERSION CONTENT [GOOS_GOARCH]. With ! there is no checksum.
// Its path goes into the variable engine.
func engineCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 && len(args) != 4 {
		ts.Fatalf("usage: engine DIR VERSION CONTENT [GOOS_GOARCH]")
	}
	platform := runtime.GOOS + "_" + runtime.GOARCH
	if len(args) == 4 {
		platform = args[3]
	}
	name := fmt.Sprintf("ggen-engine-marketplace_v%s_p1_%s", args[1], platform)
	if runtime.GOOS == "windows" && len(args) == 3 {
		name += ".exe"
	}
	dir := ts.MkAbs(args[0])
	path := filepath.Join(dir, name)
	ts.Check(errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(path, []byte(args[2]), 0o755)))
	if !neg {
		ts.Check(os.WriteFile(path+".sha256", []byte(shared.DigestOf([]byte(args[2])).Hex()+"  "+name+"\n"), 0o644))
	}
	ts.Setenv("engine", path)
}
