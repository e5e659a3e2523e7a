package resolve

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/Masterminds/semver/v3"

	"ggen.dev/marketplace/shared"
)

// solver is one search.
type solver struct {
	ctx    context.Context
	source Source
	locked map[string]string

	packages []*pack // by number; the first one is the user's question
	byName   map[string]*pack
	named    map[string]Requirement         // who first named a package's publisher
	ranges   map[string]*semver.Constraints // parsed once: the same ones come again and again

	assigned []assignment // in their order
	level    int          // decisions so far, the user's question not counted
	dirty    []int        // packages whose incompatibilities may lead somewhere

	steps        int
	requirements int
}

// pack is a package that somebody needs, with what is known of its choices.
type pack struct {
	number    int
	name      string
	publisher string
	versions  []Version // newest first
	missing   error     // why there are none
	all       set       // every choice
	allowed   set       // what is left of them
	decided   int       // number of the version that was decided on; -1: none yet
	expanded  []bool    // versions whose requirements are known
	about     []*incompatibility
}

// absent is the number of the choice that a package is not installed.
func (p *pack) absent() int { return len(p.versions) }

// term says that a package's choice is in a set.
type term struct {
	pack *pack
	in   set
}

// incompatibility is a set of terms, of different packages, that cannot all be true.
// It is a fact, with a requirement or an error, or follows from two others.
type incompatibility struct {
	terms []term
	fact  *fact
	from  [2]*incompatibility
}

// assignment narrows a package's choices: by a decision, or because an
// incompatibility leaves nothing else.
type assignment struct {
	pack   *pack
	in     set
	before set // what was allowed until then
	level  int
	cause  *incompatibility // nil: a decision
}

func newSolver(ctx context.Context, locked map[string]string, source Source) *solver {
	return &solver{
		ctx: ctx, source: source, locked: locked, byName: map[string]*pack{},
		named: map[string]Requirement{}, ranges: map[string]*semver.Constraints{},
	}
}

// run searches until every package that is needed is decided.
func (s *solver) run(roots []Requirement) error {
	question := &pack{versions: []Version{{Requires: roots}}, decided: -1, expanded: make([]bool, 1)}
	question.all = fullSet(2)
	question.allowed = question.all
	s.packages = append(s.packages, question)
	if err := s.decide(question, 0); err != nil {
		return err
	}
	for {
		if err := s.ctx.Err(); err != nil {
			return shared.AsError(err)
		}
		if s.steps++; s.steps > maxSteps {
			return shared.NewError(shared.ReasonUnsatisfiable, "the requirements are too entangled: no solution within %d steps", maxSteps)
		}
		conflict := s.propagate()
		if conflict != nil {
			if err := s.learn(conflict); err != nil {
				return err
			}
			continue
		}
		next := s.undecided()
		if next == nil {
			return nil
		}
		s.level++
		if err := s.decide(next, s.preferred(next)); err != nil {
			return err
		}
	}
}

// undecided is the package with the fewest choices among those that have to be
// installed; of several, the one that was needed first.
func (s *solver) undecided() (next *pack) {
	fewest := 0
	for _, p := range s.packages {
		if p.decided >= 0 || p.allowed.has(p.absent()) {
			continue
		}
		if n := p.allowed.count(); next == nil || n < fewest {
			next, fewest = p, n
		}
	}
	return next
}

// preferred is the locked version, or else the newest, pre-releases last.
func (s *solver) preferred(p *pack) int {
	preview := -1
	newest := -1
	for i, v := range p.versions {
		switch {
		case !p.allowed.has(i):
		case s.locked[p.name] == v.Version.String():
			return i
		case v.Version.Prerelease() != "":
			if preview < 0 {
				preview = i
			}
		case newest < 0:
			newest = i
		}
	}
	if newest >= 0 {
		return newest
	}
	return preview
}

// decide chooses a version, and notes what it needs.
func (s *solver) decide(p *pack, version int) error {
	only := newSet(len(p.versions) + 1)
	only.add(version)
	s.assign(p, only, nil)
	p.decided = version
	if p.expanded[version] {
		return nil
	}
	p.expanded[version] = true
	for _, r := range p.versions[version].Requires {
		if err := s.require(p, version, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *solver) assign(p *pack, in set, cause *incompatibility) {
	s.assigned = append(s.assigned, assignment{pack: p, in: in, before: p.allowed, level: s.level, cause: cause})
	p.allowed = p.allowed.and(in)
	s.dirty = append(s.dirty, p.number)
}

// require notes a requirement of a version, and of all others of the package that
// have the same one.
func (s *solver) require(by *pack, version int, r Requirement) error {
	if s.requirements++; s.requirements > maxRequirements {
		return shared.NewError(shared.ReasonUnsatisfiable, "the packages have more than %d requirements together", maxRequirements).
			WithHint("somebody made them so; do not install %s", s.packages[0].versions[0].Requires[0].Name)
	}
	if by.name != "" {
		r.By = by.name + "@" + by.versions[version].Version.String()
	}
	if err := s.samePublisher(r); err != nil {
		return err
	}
	needed, err := s.load(r)
	if err != nil {
		if r.Optional && s.ctx.Err() == nil {
			return nil // what nobody can choose, nobody else chooses either
		}
		return err
	}
	who := newSet(len(by.versions) + 1)
	for i, v := range by.versions {
		if i == version || slices.ContainsFunc(v.Requires, func(o Requirement) bool {
			return o.Name == r.Name && o.Range == r.Range && o.Publisher == r.Publisher && o.Optional == r.Optional
		}) {
			who.add(i)
		}
	}
	fits, err := s.inRange(needed, r)
	if err != nil {
		return err
	}
	if r.Optional {
		fits.add(needed.absent())
	}
	bad := fits.not(needed.all)
	f := &fact{requirement: r, by: by, who: who, needed: needed, missing: needed.missing}
	s.note(&incompatibility{terms: []term{{by, who}, {needed, bad}}, fact: f})
	return nil
}

// note adds an incompatibility to those of its packages. One of a package with itself
// is about the versions that contradict themselves.
func (s *solver) note(i *incompatibility) {
	if len(i.terms) == 2 && i.terms[0].pack == i.terms[1].pack {
		i.terms = []term{{i.terms[0].pack, i.terms[0].in.and(i.terms[1].in)}}
	}
	for _, t := range i.terms {
		t.pack.about = append(t.pack.about, i)
		s.dirty = append(s.dirty, t.pack.number)
	}
}

// inRange are the versions that meet a requirement.
func (s *solver) inRange(p *pack, r Requirement) (set, error) {
	fits := newSet(len(p.versions) + 1)
	for i, v := range p.versions {
		ok, err := s.meets(v.Version, r)
		if err != nil {
			return nil, err
		}
		if ok {
			fits.add(i)
		}
	}
	return fits, nil
}

// meets tells whether a version is in a requirement's range. A pre-release is
// only in a range that names one, as npm and cargo have it; a package that has
// nothing else may be taken without a range.
func (s *solver) meets(v *semver.Version, r Requirement) (bool, error) {
	if r.Range == "" || r.Range == v.String() || r.Range == v.Original() {
		return true, nil
	}
	wanted, known := s.ranges[r.Range]
	if !known {
		var err error
		if wanted, err = semver.NewConstraint(r.Range); err != nil {
			return false, shared.NewError(shared.ReasonInvalidArgument, "%s: %q is not a version range: %w", r, r.Range, err).
				WithHint("write a version (1.2.3) or a range (^1.2, >=1, <2)")
		}
		s.ranges[r.Range] = wanted
	}
	return wanted.Check(v), nil
}

// load asks the source for a package that is needed for the first time. One that does
// not exist has no versions; every other error is the user's to solve.
func (s *solver) load(r Requirement) (*pack, error) {
	if p, ok := s.byName[r.Name]; ok {
		return p, nil
	}
	versions, chosen, err := s.source.Versions(s.ctx, r.Name, s.named[r.Name].Publisher)
	missing := err
	switch {
	case s.ctx.Err() != nil:
		return nil, shared.AsError(s.ctx.Err()) // whatever the source says of it
	case err != nil && !errors.Is(err, shared.ReasonNotFound):
		return nil, needing(r, err)
	}
	versions = slices.Clone(versions)
	slices.SortStableFunc(versions, func(a, b Version) int { return b.Version.Compare(a.Version) })
	p := &pack{
		number: len(s.packages), name: r.Name, publisher: chosen, decided: -1, missing: missing,
		versions: versions[:min(len(versions), maxVersions)],
	}
	p.expanded = make([]bool, len(p.versions))
	p.all = fullSet(len(p.versions) + 1)
	p.allowed = p.all
	s.packages = append(s.packages, p)
	s.byName[r.Name] = p
	withdrawn := newSet(len(p.versions) + 1)
	for i, v := range p.versions {
		if v.Yanked && s.locked[p.name] != v.Version.String() {
			withdrawn.add(i)
		}
	}
	if !withdrawn.empty() {
		s.note(&incompatibility{terms: []term{{p, withdrawn}}, fact: &fact{withdrawn: true, by: p, who: withdrawn}})
	}
	return p, nil
}

// needing says of an error about a package who needs that.
func needing(r Requirement, err error) error {
	if r.By == "" {
		return err
	}
	e := *shared.AsError(err)
	e.Message = r.String() + ": " + e.Message
	return &e
}

// samePublisher refuses requirements that mean different publishers by one name:
// a name stands for one package in a project, and which one is not guessed.
func (s *solver) samePublisher(r Requirement) error {
	if r.Publisher == "" {
		return nil
	}
	refuse := func(have, by string) error {
		return shared.NewError(shared.ReasonUntrusted, "%s is publisher %s's package here (%s), but %s", r.Name, have, by, r).
			WithHint("one project can hold only one of them: ask the publisher of %s, or remove what needs the other one", r.By).
			With("pinned", have).With("offered", r.Publisher)
	}
	if p, loaded := s.byName[r.Name]; loaded && p.missing == nil && p.publisher != r.Publisher {
		return refuse(p.publisher, "that is who the name means")
	}
	if first, named := s.named[r.Name]; named && first.Publisher != r.Publisher {
		return refuse(first.Publisher, first.String())
	}
	s.named[r.Name] = r
	return nil
}

// propagate draws conclusions until there are no more, or returns an incompatibility
// that the assignments make true.
func (s *solver) propagate() *incompatibility {
	for len(s.dirty) > 0 {
		p := s.packages[s.dirty[len(s.dirty)-1]]
		s.dirty = s.dirty[:len(s.dirty)-1]
		for k := len(p.about) - 1; k >= 0; k-- { // what was learnt last says most
			i := p.about[k]
			switch open, count := i.open(); count {
			case 0:
				s.dirty = nil
				return i
			case 1:
				rest := open.in.not(open.pack.all)
				s.assign(open.pack, rest, i)
			}
		}
	}
	return nil
}

// open counts the terms that are neither certain nor impossible, and gives one of
// them; an incompatibility with an impossible term says nothing, and counts as 2.
func (i *incompatibility) open() (one term, count int) {
	for _, t := range i.terms {
		switch {
		case !t.pack.allowed.meets(t.in):
			return term{}, 2
		case t.pack.allowed.within(t.in):
		default:
			if count++; count > 1 {
				return term{}, 2
			}
			one = t
		}
	}
	return one, count
}

// learn finds out what has led to a conflict, goes back to where that could have been
// known, and notes it there.
func (s *solver) learn(conflict *incompatibility) error {
	for {
		if s.steps++; s.steps > maxSteps {
			return shared.NewError(shared.ReasonUnsatisfiable, "the requirements are too entangled: no solution within %d steps", maxSteps)
		}
		last, level := s.satisfier(conflict)
		if last < 0 || s.assigned[last].cause == nil && s.assigned[last].level == 0 {
			return s.explain(conflict)
		}
		a := s.assigned[last]
		if a.cause == nil || level < a.level {
			s.goBack(level)
			s.note(conflict)
			return nil
		}
		conflict = resolvent(conflict, a.cause, a.pack)
	}
}

// satisfier is the assignment that makes an incompatibility true, and the level at
// which all but that one were known.
func (s *solver) satisfier(i *incompatibility) (last, level int) {
	now := make([]set, len(i.terms))
	for k, t := range i.terms {
		now[k] = t.pack.all
	}
	last = -1
	left := 0
	for k, t := range i.terms {
		if !now[k].within(t.in) {
			left++
		}
	}
	for n := 0; n < len(s.assigned) && left > 0; n++ {
		if k := i.index(s.assigned[n].pack); k >= 0 && !now[k].within(i.terms[k].in) {
			if now[k] = now[k].and(s.assigned[n].in); now[k].within(i.terms[k].in) {
				left--
				last = n
			}
		}
	}
	if last < 0 {
		return -1, 0
	}
	// The same, with the last one known from the beginning.
	a := s.assigned[last]
	for k, t := range i.terms {
		now[k] = t.pack.all
		if t.pack == a.pack {
			now[k] = now[k].and(a.in)
		}
	}
	for n := range last {
		if k := i.index(s.assigned[n].pack); k >= 0 && !now[k].within(i.terms[k].in) {
			if now[k] = now[k].and(s.assigned[n].in); now[k].within(i.terms[k].in) {
				level = max(level, s.assigned[n].level)
			}
		}
	}
	return last, level
}

func (i *incompatibility) index(p *pack) int {
	return slices.IndexFunc(i.terms, func(t term) bool { return t.pack == p })
}

// resolvent follows from two incompatibilities by the rule of resolution over a
// package: whatever its choice is, one of the two applies.
func resolvent(a, b *incompatibility, over *pack) *incompatibility {
	r := &incompatibility{from: [2]*incompatibility{a, b}}
	for _, t := range a.terms {
		k := b.index(t.pack)
		switch {
		case k >= 0 && t.pack == over:
			t.in = t.in.or(b.terms[k].in)
		case k >= 0:
			t.in = t.in.and(b.terms[k].in)
		}
		if !t.in.equal(t.pack.all) {
			r.terms = append(r.terms, t)
		}
	}
	for _, t := range b.terms {
		if a.index(t.pack) < 0 && !t.in.equal(t.pack.all) {
			r.terms = append(r.terms, t)
		}
	}
	slices.SortFunc(r.terms, func(a, b term) int { return cmp.Compare(a.pack.number, b.pack.number) })
	return r
}

// goBack forgets the assignments above a level.
func (s *solver) goBack(level int) {
	for n := len(s.assigned); n > 0 && s.assigned[n-1].level > level; n-- {
		a := s.assigned[n-1]
		a.pack.allowed = a.before
		if a.cause == nil {
			a.pack.decided = -1
		}
		s.assigned = s.assigned[:n-1]
	}
	s.level = level
	s.dirty = s.dirty[:0]
	for _, p := range s.packages {
		s.dirty = append(s.dirty, p.number)
	}
}

// decided is the version of a package that was chosen, or nil.
func (s *solver) decided(name string) *Version {
	p, ok := s.byName[name]
	if !ok || p.decided < 0 {
		return nil
	}
	return &p.versions[p.decided]
}
