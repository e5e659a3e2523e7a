package scenario

// beyond lists what the 51 scenarios do not ask.
func beyond() []Scenario {
	return []Scenario{
		{Name: "beyond/search_large/100000", Set: Full, World: Real, Run: largeIndex(100_000)},
		{Name: "beyond/cli_start", Set: Full, World: Real, Peers: 1, Run: cliStart},
	}
}
