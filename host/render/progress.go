package render

import (
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"ggen.dev/marketplace/shared"
)

// patience is how long a call may take before its progress is drawn: what is
// quicker would only flicker.
const patience = 500 * time.Millisecond

// Progress draws the progress of one call on a terminal, once it has lasted for
// half a second. Without a terminal, and when quiet, it draws nothing. [Progress.Close]
// clears what was drawn and has to come before anything else is printed.
type Progress struct {
	output *Output
	timer  *time.Timer

	mu     sync.Mutex // guards what follows
	closed bool
	last   shared.Progress
	bars   *mpb.Progress
	bar    *mpb.Bar
	phase  shared.Phase
	name   string
	known  bool // the bar was made with a total
}

// NewProgress begins to wait for half a second.
func (o *Output) NewProgress() *Progress {
	p := &Progress{output: o}
	if o.Terminal && !o.Quiet {
		p.timer = time.AfterFunc(patience, p.begin)
	}
	return p
}

// Report is a [shared.ProgressFunc].
func (p *Progress) Report(step shared.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = step
	if p.bars != nil && !p.closed {
		p.draw()
	}
}

// Close stops drawing and clears the line. It is idempotent.
func (p *Progress) Close() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if p.bars != nil {
		if p.bar != nil {
			p.bar.Abort(true)
		}
		p.bars.Wait()
	}
}

func (p *Progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	// Output has decided that this is a terminal; the library need not ask again.
	p.bars = mpb.New(mpb.WithOutput(p.output.Err), mpb.WithAutoRefresh(), mpb.WithWidth(40))
	p.draw()
}

// draw runs with mu held.
func (p *Progress) draw() {
	if p.bar == nil || p.last.Phase != p.phase || p.last.Package != p.name || p.last.Total > 0 && !p.known {
		if p.bar != nil {
			p.bar.Abort(true)
		}
		p.phase, p.name, p.known = p.last.Phase, p.last.Package, p.last.Total > 0
		p.bar = p.newBar(p.last)
	}
	if p.last.Total > 0 {
		p.bar.SetTotal(p.last.Total, false)
	}
	p.bar.SetCurrent(p.last.Done)
}

func (p *Progress) newBar(step shared.Progress) *mpb.Bar {
	label := "working"
	if step.Phase != "" {
		label = Clean(string(step.Phase))
	}
	if step.Package != "" {
		label += " " + Clean(step.Package)
	}
	before := mpb.PrependDecorators(decor.Name(label, decor.WCSyncSpaceR))
	if step.Total <= 0 {
		return p.bars.New(0, mpb.SpinnerStyle(), before, mpb.BarRemoveOnComplete(), mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO)))
	}
	return p.bars.New(step.Total, mpb.BarStyle(), before, mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.Name(" "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))
}
