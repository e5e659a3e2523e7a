package launch_test

import (
	"testing"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/shared/launch"
)

// TestLocations: what one writes on an engine's command line, the other reads; what is no
// place is refused.
func TestLocations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := launch.Location{
			Latitude: rapid.IntRange(-90, 90).Draw(t, "latitude"), Longitude: rapid.IntRange(-180, 180).Draw(t, "longitude"),
			Region: rapid.StringMatching("[a-z0-9-]{0,32}").Draw(t, "region"),
		}
		if got, err := launch.ParseLocation(l.String()); err != nil || got != l {
			t.Fatalf("%+v became %+v, %v", l, got, err)
		}
	})
	for _, text := range []string{"", "1,2", "1,2,3,4", "x,2,", "91,0,", "0,-181,", "0,0,Große", "0,0,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1.5,0,"} {
		if got, err := launch.ParseLocation(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
	a, b := launch.Settings{Location: &launch.Location{Latitude: 1}}, launch.Settings{Location: &launch.Location{Latitude: 1}}
	if !a.Equal(b) || a.Equal(launch.Settings{}) || (launch.Settings{}).Equal(a) {
		t.Error("settings are compared by something else than their location")
	}
}
