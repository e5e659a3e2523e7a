package reputation

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Place is about where a peer says it is: whole degrees, which is a square of up to
// 111 km. It is never asked for, and what a peer says of itself only counts until its
// answers have been timed. The zero value is nowhere.
type Place struct {
	Known               bool   `json:"known,omitempty"`
	Latitude, Longitude int    // degrees; north and east are positive
	Region              string `json:"region,omitempty"` // a name such as eu-central, for people
}

// maxRegion bounds a region's name in bytes.
const maxRegion = 32

// placeMark begins a place in a peer's agent name.
const placeMark = "geo "

// String is how a peer states its place: "geo 48 11 eu-central". Nowhere is empty.
func (p Place) String() string {
	if !p.Known {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%s%d %d %s", placeMark, p.Latitude, p.Longitude, p.Region))
}

// NewPlace rounds coordinates to whole degrees. It refuses what is not on Earth, and a
// region that is not of a-z, 0-9 and '-', at most 32 bytes.
func NewPlace(latitude, longitude float64, region string) (Place, bool) {
	if !(math.Abs(latitude) <= 90 && math.Abs(longitude) <= 180) || !goodRegion(region) { // NaN is refused, too
		return Place{}, false
	}
	return Place{Known: true, Latitude: int(math.Round(latitude)), Longitude: int(math.Round(longitude)), Region: region}, true
}

func goodRegion(region string) bool {
	return len(region) <= maxRegion && !strings.ContainsFunc(region, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	})
}

// PlaceIn finds the place in a peer's agent name, such as "ggen/1.0.0 (geo 48 11)".
// Anything else is nowhere: peers may call themselves what they like.
func PlaceIn(agent string) Place {
	const longest = 256
	open := strings.LastIndex(agent, "("+placeMark)
	if open < 0 || len(agent) > longest || !strings.HasSuffix(agent, ")") {
		return Place{}
	}
	fields := strings.Split(strings.TrimSuffix(agent[open+1+len(placeMark):], ")"), " ")
	if len(fields) != 2 && len(fields) != 3 {
		return Place{}
	}
	latitude, err := strconv.Atoi(fields[0])
	if err != nil {
		return Place{}
	}
	longitude, err := strconv.Atoi(fields[1])
	if err != nil {
		return Place{}
	}
	region := ""
	if len(fields) == 3 {
		region = fields[2]
	}
	place, _ := NewPlace(float64(latitude), float64(longitude), region)
	return place
}

// earthRadius in kilometres; the Earth is as good as round here.
const earthRadius = 6371

// Distance is how far two places are apart in kilometres, along a great circle; false
// unless both are known.
func (p Place) Distance(q Place) (km float64, known bool) {
	if !p.Known || !q.Known {
		return 0, false
	}
	radians := func(degrees int) float64 { return float64(degrees) * math.Pi / 180 }
	a, b := radians(p.Latitude), radians(q.Latitude)
	sinLat, sinLon := math.Sin((b-a)/2), math.Sin(radians(q.Longitude-p.Longitude)/2)
	h := sinLat*sinLat + math.Cos(a)*math.Cos(b)*sinLon*sinLon // haversine
	return 2 * earthRadius * math.Asin(min(math.Sqrt(h), 1)), true
}

// SetPlace says where this node is, to whomever it concerns: the book alone.
func (k *Book) SetPlace(here Place) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.here = here
}

// Placed notes where a peer says it is.
func (k *Book) Placed(peer string, at Place) {
	k.change(peer, func(r *Record, _ time.Time) { r.Place = at })
}
