package render

import (
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
