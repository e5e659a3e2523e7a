package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"ggen.dev/marketplace/shared/launch"
)

// explain tells the person who runs an engine by hand how to use it.
func explain(stdout io.Writer, state launch.State) error {
	_, err := fmt.Fprintf(stdout, `engine %s is up, as process %d. In another terminal:

  export %s=%s

Then every ggen command, and every Go test that starts ggen, uses this engine, and
none is started or replaced. Ctrl-C ends it.
`, state.Version, state.PID, launch.AttachVariable, state.Address)
	return err
}

// defaultHome is the home that ggen uses: $GGEN_HOME, else ~/.ggen.
func defaultHome() string {
	home := os.Getenv("GGEN_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "" // the caller refuses it
		}
		home = filepath.Join(user, ".ggen")
	}
	absolute, err := filepath.Abs(home)
	if err != nil {
		return ""
	}
	return absolute
}
