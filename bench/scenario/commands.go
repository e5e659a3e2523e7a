package scenario

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ggen.dev/marketplace/p2p"
)

// user is a person with a home, a project and the commands that people have.
type user struct {
	r       *Run
	ggen    string
	home    string
	project string
}

// user makes one, whose engine ends with the run.
func (r *Run) user() *user {
	bin := r.binaries()
	// A socket's path has at most 100 bytes, and folders of tests have long names.
	dir, err := os.MkdirTemp("", "gb")
	if err != nil {
		r.Fatal(err)
	}
	u := &user{r: r, ggen: filepath.Join(bin, "ggen"), home: filepath.Join(dir, "h"), project: filepath.Join(dir, "p")}
	if err := os.MkdirAll(u.project, 0o755); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(u.project, "ggen.toml"), nil, 0o644); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		u.run("p2p", "stop")
		if err := os.RemoveAll(dir); err != nil {
			r.Error(err)
		}
	})
	return u
}

// run runs a command to its end, and is its output and how long it took.
func (u *user) run(args ...string) ([]byte, time.Duration) {
	u.r.Helper()
	//nolint:noctx // a command has its own deadlines, and the run's context is over when it stops the engine
	cmd := exec.Command(u.ggen, append([]string{"marketplace"}, args...)...)
	cmd.Env = append(os.Environ(), "GGEN_HOME="+u.home, "GGEN_P2P_LISTEN=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1", "NO_COLOR=1")
	cmd.Dir = u.project
	var stderr strings.Builder
	cmd.Stderr = &stderr
	began := time.Now()
	out, err := cmd.Output()
	took := time.Since(began)
	if err != nil {
		u.r.Fatalf("ggen marketplace %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return out, took
}

// pid is that of the engine's process.
func (u *user) pid() int {
	var status struct {
		EnginePID int `json:"engine_pid"`
	}
	out, _ := u.run("p2p", "status", "--json")
	if err := json.Unmarshal(out, &status); err != nil {
		u.r.Fatal(err)
	}
	return status.EnginePID
}

// sees waits until a search finds a package.
func (u *user) sees(name string) {
	u.r.await("the user to find "+name, 10*time.Millisecond, func() bool {
		out, _ := u.run("search", name, "--json")
		return strings.Contains(string(out), `"`+name+`"`)
	})
}

// surroundings are the other peers of a user, one of which publishes: peers in all, and
// packages of which the first ones exist in name only.
func (r *Run) surroundings(packages int) (u *user, n *peers) {
	u = r.user() // first: it may skip
	n = r.network()
	n.grow(r.Scenario.Peers-1, func(i int) p2p.Config {
		if i == 0 {
			return r.seed(packages)
		}
		return p2p.Config{}
	})
	n.connected()
	n.complete(packages)
	address := n.status(0).ListenAddresses[0]
	u.run("p2p", "start", "--bootstrap", address)
	u.sees(fmt.Sprintf("seed-%d-0", packages/10-1))
	return u, n
}

// least runs a command that asks no engine: what any command takes.
func (u *user) least(series string) {
	u.r.Aside(func() {
		_, took := u.run("completion", "bash")
		u.r.Took(series, took)
	})
}

// cliSearch measures `ggen marketplace search` with a warm engine, as a whole process.
func cliSearch(r *Run) {
	u, _ := r.surroundings(cliPackages)
	for r.Loop() {
		out, took := u.run("search", "templates", "--json")
		r.Took("cli-search", took)
		u.least("cli-search-floor")
		if !strings.Contains(string(out), `"name"`) {
			r.Fatalf("nothing is found: %s", out)
		}
	}
}

// cliInstall measures the install of a package of 30 KB that another peer has.
func cliInstall(r *Run) {
	u, n := r.surroundings(cliPackages)
	for round := 0; r.Loop(); round++ {
		name := fmt.Sprint("installed-", round)
		r.Aside(func() {
			r.publish(n.engines[round%len(n.engines)], name)
			u.sees(name)
		})
		_, took := u.run("install", name, "--trust", "--yes")
		r.Took("cli-install", took)
		u.least("cli-install-floor")
	}
}

// cliPublish measures the publication of a package of 30 KB.
func cliPublish(r *Run) {
	u, _ := r.surroundings(cliPackages)
	for round := 0; r.Loop(); round++ {
		name := fmt.Sprint("published-", round)
		r.Aside(func() { u.write(name) })
		_, took := u.run("publish", name)
		r.Took("cli-publish", took)
		u.least("cli-publish-floor")
	}
}

// write makes a package folder of about 30 KB in the project.
func (u *user) write(name string) {
	const files = 9
	contents := map[string]string{"package.toml": fmt.Sprintf("[package]\nname = %q\nversion = \"1.0.0\"\ndescription = \"a package to measure with\"\n", name)}
	for i := range files {
		line := fmt.Sprintf("%s template %d\n", name, i)
		contents[fmt.Sprintf("%d.tmpl", i)] = strings.Repeat(line, (30<<10)/files/len(line)+1)
	}
	folder := filepath.Join(u.project, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		u.r.Fatal(err)
	}
	for file, content := range contents {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o644); err != nil {
			u.r.Fatal(err)
		}
	}
}

// cliStart measures a command that has to start the engine, beside the same one with a warm engine.
func cliStart(r *Run) {
	u := r.user()
	u.run("search", "x")
	for r.Loop() {
		r.Aside(func() { u.run("p2p", "stop") })
		_, took := u.run("search", "x")
		r.Took("cli-cold", took)
		_, took = u.run("search", "x")
		r.Took("cli-warm", took)
	}
}

// idle measures the resident memory of a real engine process that has nothing to do.
func idle(r *Run) {
	u := r.user()
	u.run("p2p", "start")
	const settling = 15 * time.Second // it gives back what its start took
	<-time.After(settling)
	pid := u.pid()
	for r.Loop() {
		resident, err := residentMiB(pid)
		if err != nil {
			r.Skipf("the memory of a process is read from /proc: %v", err)
		}
		r.Sample("resident", "MiB", resident)
		<-time.After(time.Second)
	}
}

// residentMiB is what the kernel says of a process (Linux).
func residentMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kB int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kB); err == nil {
			return float64(kB) / 1024, nil
		}
	}
	return 0, io.ErrUnexpectedEOF
}

// cliPackages is how many packages a user's network has.
const cliPackages = 500
