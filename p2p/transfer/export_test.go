package transfer

// Waiting counts the callers that wait for downloads.
func (c *Client) Waiting() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.flights {
		n += f.waiters
	}
	return n
}
