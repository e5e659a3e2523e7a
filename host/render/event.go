package render

import (
	"time"

	"ggen.dev/marketplace/shared"
)

// Event is something that happened in the network. `watch` prints one a line.
type Event struct {
	Kind    shared.EventKind `json:"kind"`              // release, peer-joined, peer-left, quarantined or events-lost
	Time    time.Time        `json:"time"`              // when this peer learnt of it
	Package *Package         `json:"package,omitempty"` // of a release
	PeerID  string           `json:"peer_id,omitempty"` // of a peer that came or went
	Lost    int              `json:"lost,omitempty"`    // events that were missed, as far as they could be counted
	Message string           `json:"message,omitempty"` // what happened, if the rest does not say it
}

// NewEvent takes over an event.
func NewEvent(ev shared.Event) Event {
	doc := Event{Kind: ev.Kind, Time: ev.Time.UTC(), PeerID: ev.PeerID, Lost: ev.Lost, Message: ev.Message}
	if ev.Package.Name != "" {
		pkg := newPackage(ev.Package)
		doc.Package = &pkg
	}
	return doc
}

// Text implements [Document].
func (d Event) Text(p *Page) {
	at := d.Time.Local().Format(time.TimeOnly)
	switch {
	case d.Package != nil:
		p.Line("%s  %s@%s  %s  %s", at, d.Package.Name, d.Package.Version, d.Package.Publisher.Short(), d.Package.Description)
	case d.Kind == shared.EventPeerJoined:
		p.Line("%s  peer %s is connected", at, d.PeerID)
	case d.Kind == shared.EventPeerLeft:
		p.Line("%s  peer %s is gone", at, d.PeerID)
	case d.Lost > 0:
		p.Line("%s  %s missed", at, plural(d.Lost, "event was", "events were"))
	default:
		p.Line("%s  %s: %s", at, d.Kind, d.Message)
	}
}
