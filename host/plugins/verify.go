package plugins

import (
	"cmp"

	"ggen.dev/marketplace/shared"
)

// Verdict is what hashing an engine has shown.
type Verdict struct {
	Candidate
	OK       bool
	Expected shared.Digest // that of the checksum file, or of plugins.lock where they differ; may be empty
	Found    shared.Digest // empty if it was not hashed
	Problem  string        // empty if OK
	Remedy   string        // what to do about it; may be empty
}

// Verify hashes every engine file in the search places, whatever was hashed before,
// and compares it with its checksum, with plugins.lock and, if keys are pinned, with
// its signature. It leaves out the engine of [DevVariable], and a project's engines
// that may not be used anyway. Errors: those of [Find].
func Verify(s Search) ([]Verdict, error) {
	r, err := load(s)
	if err != nil {
		return nil, err
	}
	found, err := r.find()
	if err != nil {
		return nil, err
	}
	var verdicts []Verdict
	for _, c := range found {
		if c.Development() || c.withoutConsent() {
			continue
		}
		v := Verdict{Candidate: c}
		if r.inspect(&c); c.Digest != "" {
			before := c
			v.Found = r.verify(&c, false)
			if before.standing == broken {
				c = before
			}
		}
		v.Expected = cmp.Or(c.expected, c.Digest)
		if v.OK = c.standing != broken; !v.OK {
			v.Problem, v.Remedy = c.Why, c.Fix
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}
