package coordinate_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/coordinate"
)

// TestPlacesFitTheNetwork holds that peers which measured a few others predict the
// round trips to all others: 100 peers in five regions, 120 measurements each.
func TestPlacesFitTheNetwork(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	regions := [5][2]float64{{0, 0}, {35, 5}, {60, 70}, {10, 90}, {90, 20}} // ms one way, as a map
	const peers = 100
	at, last := [peers][2]float64{}, [peers]float64{}
	for i := range peers {
		r := regions[i%len(regions)]
		at[i], last[i] = [2]float64{r[0] + random.Float64()*4, r[1] + random.Float64()*4}, 4+random.Float64()*4
	}
	roundTrip := func(i, j int) time.Duration {
		return time.Duration(2 * (math.Hypot(at[i][0]-at[j][0], at[i][1]-at[j][1]) + last[i] + last[j]) * float64(time.Millisecond))
	}
	var places [peers]*coordinate.Place
	for i := range places {
		places[i] = coordinate.NewPlace()
	}
	for range 120 {
		for i, place := range places {
			if j := random.IntN(peers); j != i {
				place.Observe(places[j].Point(), roundTrip(i, j))
			}
		}
	}
	var wrong []float64
	for i := range peers {
		for j := range i {
			predicted, truth := places[i].Point().RoundTrip(places[j].Point()), roundTrip(i, j)
			wrong = append(wrong, math.Abs((predicted-truth).Seconds())/truth.Seconds())
		}
	}
	slices.Sort(wrong)
	if median := wrong[len(wrong)/2]; median > 0.15 {
		t.Errorf("half of all predictions are off by over %.0f %%", 100*median)
	}
	if !places[0].Point().Known() || coordinate.Origin().Known() || (coordinate.Point{}).Known() {
		t.Error("Known mistakes fitted points for fresh ones")
	}
}

func TestPointSurvivesEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		place := coordinate.NewPlace()
		for range rapid.IntRange(0, 30).Draw(t, "measurements") {
			other := coordinate.NewPlace()
			other.Observe(coordinate.Origin(), time.Duration(rapid.Int64Range(-1e9, 9e9).Draw(t, "of another")))
			place.Observe(other.Point(), time.Duration(rapid.Int64Range(-1e9, 9e9).Draw(t, "round trip")))
		}
		encoded := place.Point().Append(nil)
		read, err := coordinate.Parse(encoded)
		if err != nil || len(encoded) != coordinate.Size {
			t.Fatalf("%v of %d bytes: %v", place.Point(), len(encoded), err)
		}
		if d := place.Point().RoundTrip(coordinate.Origin()) - read.RoundTrip(coordinate.Origin()); d.Abs() > time.Millisecond {
			t.Fatalf("encoding moved the point by %s", d)
		}
	})
}

// FuzzParse holds that whatever a peer sends is refused, or a point that gives
// predictions within bounds and cannot push this node out of the space.
func FuzzParse(f *testing.F) {
	f.Add(coordinate.Origin().Append(nil))
	f.Add(make([]byte, coordinate.Size))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := coordinate.Parse(data)
		if err != nil {
			return
		}
		place := coordinate.NewPlace()
		for range 100 {
			place.Observe(p, time.Second)
		}
		if d := place.Point().RoundTrip(p); d < 0 || d > 30*time.Second {
			t.Fatalf("predicts %s", d)
		}
	})
}
