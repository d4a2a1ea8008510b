package progress

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
)

// A contention knows how much longer the process takes because other processes use
// the processors, by what the kernel says of its threads.
type contention struct {
	asked time.Time
	last  float64
}

// factor returns the factor that is expected of work to come; 0 where it is not
// known. It asks the kernel once a second. It is the root of what was measured:
// threads that mostly wait for a disk wait longer for a processor than others do.
func (c *contention) factor() float64 {
	if now := time.Now(); now.Sub(c.asked) >= time.Second {
		c.asked, c.last = now, math.Sqrt(factorOf("/proc/self/task"))
	}
	return c.last
}

// Less time than leastRun says nothing, and nothing is slower than by mostWaits.
const (
	leastRun  = 50 * time.Millisecond
	mostWaits = 20
)

// factorOf returns the time in which threads ran or could have run, divided by the
// time in which they ran. It reads the schedstat of each thread in a folder: for how
// many nanoseconds it ran, and for how many it waited for a processor.
func factorOf(tasks string) float64 {
	files, _ := filepath.Glob(filepath.Join(tasks, "*", "schedstat")) // fails only for a bad pattern
	var ran, waited time.Duration
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		var r, w time.Duration
		if _, err := fmt.Sscan(string(b), &r, &w); err == nil {
			ran, waited = ran+r, waited+w
		}
	}
	if ran < leastRun {
		return 0
	}
	return min(float64(ran+waited)/float64(ran), mostWaits)
}
