package p2p

import (
	"context"

	"ggen.dev/marketplace/shared"
)

// Pins lists the pins of this node; see [shared.Marketplace].
func (e *Engine) Pins(ctx context.Context) ([]shared.Pin, error) {
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	var pins []shared.Pin
	for _, pin := range e.catalog.Pins() {
		pins = append(pins, shared.Pin{Name: pin.Name, Publisher: pin.Publisher, Since: pin.FirstUse})
	}
	return pins, nil
}

// SetPin binds a name to a publisher, or to none; see [shared.Marketplace].
func (e *Engine) SetPin(ctx context.Context, name string, publisher shared.PublisherID) (shared.Pin, error) {
	if err := ctx.Err(); err != nil {
		return shared.Pin{}, shared.AsError(err)
	}
	if err := shared.CheckName(name); err != nil {
		return shared.Pin{}, err
	}
	if publisher != "" {
		id, err := shared.ParsePublisherID(string(publisher))
		if err != nil {
			return shared.Pin{}, err
		}
		if publisher = id; !id.Complete() {
			pkg, err := chooseNamed(e.catalog.Lookup(name), shared.Ref{Name: name, Publisher: id})
			if err != nil {
				return shared.Pin{}, err
			}
			publisher = pkg.Publisher
		}
	}
	former, err := e.catalog.Repin(name, publisher)
	return shared.Pin{Name: name, Publisher: former.Publisher, Since: former.FirstUse}, err
}
