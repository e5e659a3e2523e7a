package render

import (
	"strconv"
	"time"

	"ggen.dev/marketplace/shared"
)

// Pin says which publisher a name means.
type Pin struct {
	Name      string             `json:"name"`      // name of the package
	Publisher shared.PublisherID `json:"publisher"` // that it means on this machine
	Since     *time.Time         `json:"since"`     // its first use here, or the user's word
}

// Pins is what names mean on this machine.
type Pins struct {
	Pins  []Pin `json:"pins"`  // by name
	Total int   `json:"total"` // how many there are in all
}

// NewPins takes over a list.
func NewPins(pins []shared.Pin) Pins {
	doc := Pins{Pins: []Pin{}, Total: len(pins)}
	for _, pin := range pins {
		doc.Pins = append(doc.Pins, Pin{pin.Name, pin.Publisher, stamp(pin.Since)})
	}
	return doc
}

// Text implements [Document].
func (d Pins) Text(p *Page) {
	rows := make([][]string, 0, len(d.Pins))
	for _, pin := range d.Pins {
		since := ""
		if pin.Since != nil {
			since = day(*pin.Since)
		}
		rows = append(rows, []string{pin.Name, string(pin.Publisher), since})
	}
	p.Table([]string{"NAME", "PUBLISHER", "SINCE"}, rows)
	if d.Total == 0 {
		p.Line("No name is pinned: the first install of a package pins its publisher.")
	}
}

// Repinned is the result of changing what a name means.
type Repinned struct {
	Name              string             `json:"name"`               // name of the package
	Publisher         shared.PublisherID `json:"publisher"`          // that it means now; empty if none
	PreviousPublisher shared.PublisherID `json:"previous_publisher"` // that it meant before; empty if none
}

// NewRepinned takes over the pin of before; pins are all of now.
func NewRepinned(name string, former shared.Pin, pins []shared.Pin) Repinned {
	doc := Repinned{Name: name, PreviousPublisher: former.Publisher}
	for _, pin := range pins {
		if pin.Name == name {
			doc.Publisher = pin.Publisher
		}
	}
	return doc
}

// Text implements [Document].
func (d Repinned) Text(p *Page) {
	switch {
	case d.Publisher == d.PreviousPublisher && d.Publisher == "":
		p.Line("%s was not pinned.", d.Name)
	case d.Publisher == "":
		p.Line("%s is not pinned any more; it meant publisher %s.", d.Name, d.PreviousPublisher.Short())
	case d.PreviousPublisher == "" || d.PreviousPublisher == d.Publisher:
		p.Line("%s means publisher %s.", d.Name, d.Publisher.Short())
	default:
		p.Line("%s means publisher %s now, and not %s.", d.Name, d.Publisher.Short(), d.PreviousPublisher.Short())
	}
}

// TrustReport says whom a name means, and who else offers a package of it.
type TrustReport struct {
	Name       string             `json:"name"`                // of the package
	Rule       shared.TrustRule   `json:"rule"`                // why: pin, catalogue, only (nobody else offers one) or none (it means nobody)
	Publisher  shared.PublisherID `json:"publisher"`           // that it means; empty if none
	Since      *time.Time         `json:"since"`               // of the pin or the catalogue's issue; null if neither
	Catalogue  string             `json:"catalogue,omitempty"` // title of the trust catalogue, if the rule is catalogue
	Candidates []Candidate        `json:"candidates"`          // publishers that offer one, the first known first
	LookAlikes []LookAlike        `json:"look_alikes"`         // well-known names that it may be taken for
}

// Candidate is a publisher that offers a package.
type Candidate struct {
	Publisher shared.PublisherID `json:"publisher"`  // full ID
	Newest    string             `json:"newest"`     // version
	Releases  int                `json:"releases"`   // that are not yanked
	FirstSeen *time.Time         `json:"first_seen"` // when this peer learnt of the oldest; null if unknown
	Holders   int                `json:"holders"`    // peers known to hold the newest one; -1 if nobody could be asked
}

// LookAlike is a well-known name.
type LookAlike struct {
	Name      string             `json:"name"`      // of the other package
	Publisher shared.PublisherID `json:"publisher"` // that it means; empty if none
	Why       string             `json:"why"`       // in words
}

// NewTrustReport takes over a report.
func NewTrustReport(r shared.TrustReport) TrustReport {
	doc := TrustReport{Name: r.Name, Rule: r.Rule, Publisher: r.Publisher, Since: stamp(r.Since), Catalogue: r.Catalogue, Candidates: []Candidate{}, LookAlikes: []LookAlike{}}
	for _, c := range r.Candidates {
		doc.Candidates = append(doc.Candidates, Candidate{c.Publisher, c.Newest, c.Releases, stamp(c.FirstSeen), c.Holders})
	}
	for _, l := range r.LookAlikes {
		doc.LookAlikes = append(doc.LookAlikes, LookAlike(l))
	}
	return doc
}

// Text implements [Document].
func (d TrustReport) Text(p *Page) {
	since := ""
	if d.Since != nil {
		since = day(*d.Since)
	}
	switch d.Rule {
	case shared.RulePin:
		p.Line("%s means publisher %s: it is pinned here since %s.", d.Name, d.Publisher, since)
	case shared.RuleCatalogue:
		p.Line("%s means publisher %s: the trust catalogue %q of %s says so.", d.Name, d.Publisher, Clean(d.Catalogue), since)
	case shared.RuleOnly:
		p.Line("%s means publisher %s: nobody else offers one. It is not pinned yet.", d.Name, d.Publisher)
	default:
		p.Line("%s means nobody yet: %s.", d.Name, plural(len(d.Candidates), "publisher offers one", "publishers offer one"))
	}
	p.Line("")
	rows := make([][]string, 0, len(d.Candidates))
	for _, c := range d.Candidates {
		seen, holders := "", "?"
		if c.FirstSeen != nil {
			seen = day(*c.FirstSeen)
		}
		if c.Holders >= 0 {
			holders = strconv.Itoa(c.Holders)
		}
		rows = append(rows, []string{string(c.Publisher), seen, strconv.Itoa(c.Releases), c.Newest, holders})
	}
	p.Table([]string{"PUBLISHER", "KNOWN SINCE", "RELEASES", "NEWEST", "HELD BY"}, rows)
	for _, l := range d.LookAlikes {
		p.Line("")
		p.Line("It may be taken for %s (publisher %s): %s.", Clean(l.Name), l.Publisher.Short(), Clean(l.Why))
	}
}

// TrustCatalogues are the signed lists of names that this machine follows.
type TrustCatalogues struct {
	Catalogues []TrustCatalogue `json:"catalogues"` // by signer and title
	Total      int              `json:"total"`      // how many there are
}

// TrustCatalogue says which publisher each of a list of names means.
type TrustCatalogue struct {
	Title  string                        `json:"title"`  // chosen by the signer
	Signer shared.PublisherID            `json:"signer"` // full ID
	Serial int64                         `json:"serial"` // of this issue; a higher one replaces a lower
	Issued *time.Time                    `json:"issued"` // by the signer's clock
	Names  map[string]shared.PublisherID `json:"names"`  // publisher of each name
}

// ChangedCatalogue is a catalogue that is followed from now on, or not any more.
type ChangedCatalogue struct {
	TrustCatalogue
	Followed bool `json:"followed"` // it is followed now
}

// NewTrustCatalogue takes over a catalogue.
func NewTrustCatalogue(c shared.TrustCatalogue) TrustCatalogue {
	doc := TrustCatalogue{Title: c.Title, Signer: c.Signer, Serial: c.Serial, Issued: stamp(c.Issued), Names: map[string]shared.PublisherID{}}
	for _, n := range c.Names {
		doc.Names[n.Name] = n.Publisher
	}
	return doc
}

// NewTrustCatalogues takes over a list.
func NewTrustCatalogues(list []shared.TrustCatalogue) TrustCatalogues {
	doc := TrustCatalogues{Catalogues: []TrustCatalogue{}, Total: len(list)}
	for _, c := range list {
		doc.Catalogues = append(doc.Catalogues, NewTrustCatalogue(c))
	}
	return doc
}

// Text implements [Document].
func (d TrustCatalogues) Text(p *Page) {
	rows := make([][]string, 0, len(d.Catalogues))
	for _, c := range d.Catalogues {
		issued := ""
		if c.Issued != nil {
			issued = day(*c.Issued)
		}
		rows = append(rows, []string{c.Title, c.Signer.Short(), strconv.FormatInt(c.Serial, 10), issued, strconv.Itoa(len(c.Names))})
	}
	p.Table([]string{"TITLE", "SIGNER", "SERIAL", "ISSUED", "NAMES"}, rows)
	if p.Verbose {
		for _, c := range d.Catalogues {
			p.Line("")
			p.Line("%s", Clean(c.Title))
			for _, name := range sortedKeys(c.Names) {
				p.Line("  %s %s", name, c.Names[name])
			}
		}
	}
	if d.Total == 0 {
		p.Line("No trust catalogue is followed.")
	}
}

// Text implements [Document].
func (d ChangedCatalogue) Text(p *Page) {
	state := "is not followed any more; what it had led to being pinned stays so"
	if d.Followed {
		state = "is followed"
	}
	p.Line("The trust catalogue %q, issue %d by %s, %s: %s.", Clean(d.Title), d.Serial, d.Signer, state, plural(len(d.Names), "name", "names"))
}

// SignedCatalogue is a catalogue that was signed into a file.
type SignedCatalogue struct {
	TrustCatalogue
	File string `json:"file"` // absolute path
}

// Text implements [Document].
func (d SignedCatalogue) Text(p *Page) {
	p.Line("Signed issue %d of %q with %s as %s into %s.", d.Serial, Clean(d.Title), plural(len(d.Names), "name", "names"), d.Signer, d.File)
	if !p.Quiet {
		p.Line("Others follow it: `ggen marketplace trust catalogue add FILE`.")
	}
}

// ForkProof is a proof that a publisher signed two different logs, written or verified.
type ForkProof struct {
	Publisher   shared.PublisherID `json:"publisher"`      // that it convicts
	Size        int64              `json:"size"`           // within their first so many entries the two logs differ
	First       shared.Digest      `json:"first"`          // hash of the one log's tree of that size
	Second      shared.Digest      `json:"second"`         // of the other one's
	FirstTime   *time.Time         `json:"first_time"`     // when the one was signed, by the publisher's clock
	SecondTime  *time.Time         `json:"second_time"`    // when the other one was
	Quarantined bool               `json:"quarantined"`    // nothing more is accepted from this publisher here
	File        string             `json:"file,omitempty"` // absolute path that it was written to
}

// NewForkProof takes over a verdict; file is where the proof was written, if it was.
func NewForkProof(v shared.ForkVerdict, file string) ForkProof {
	return ForkProof{v.Publisher, v.Size, v.First, v.Second, stamp(v.FirstTime), stamp(v.SecondTime), v.Quarantined, file}
}

// Text implements [Document].
func (d ForkProof) Text(p *Page) {
	p.Line("Publisher %s signed two logs that differ within their first %s.", d.Publisher, plural(int(d.Size), "entry", "entries"))
	if p.Quiet {
		return
	}
	first, second := "", ""
	if d.FirstTime != nil && d.SecondTime != nil {
		first, second = d.FirstTime.Format(time.RFC3339), d.SecondTime.Format(time.RFC3339)
	}
	p.Fields("One tree", string(d.First), "signed", first)
	p.Fields("The other", string(d.Second), "signed", second)
	if d.Quarantined {
		p.Line("Nothing more is accepted from this publisher here.")
	}
	if d.File != "" {
		p.Line("The proof is in %s; anybody can verify it: `ggen marketplace trust proof --check FILE`.", d.File)
	}
}
