package stress

import (
	"context"
	"io"
	"math/bits"
	"net/http"
	"sync"
	"time"

	"forkproof/internal/finding"
)

// load asks a server for pages, on so many connections at once, each request on
// a new one: so that every worker gets some.
type load struct {
	urls    []string
	client  http.Client
	timeout time.Duration

	mu               sync.Mutex
	requests, failed int
	times            histogram
}

// maxBody is how much of an answer is read.
const maxBody = 16 << 20

// refused is how long is waited after a request that failed, so that a server
// that is away is not asked in a busy loop.
const refused = 20 * time.Millisecond

func newLoad(urls []string, timeout time.Duration) *load {
	return &load{urls: urls, timeout: timeout, client: http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// answers reports whether the server answers at all, whatever it says.
func (l *load) answers(ctx context.Context) bool {
	code, err := l.get(ctx, l.urls[0])
	return err == nil && code != 0
}

func (l *load) get(ctx context.Context, url string) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := l.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, maxBody))
	return answer.StatusCode, err
}

// run asks until the context ends, and returns when nothing is under way.
func (l *load) run(ctx context.Context, connections int) {
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				begun := time.Now()
				code, err := l.get(ctx, l.urls[n%len(l.urls)])
				took := time.Since(begun)
				if ctx.Err() != nil {
					return // cut off by us
				}
				bad := err != nil || code >= http.StatusInternalServerError
				l.mu.Lock()
				l.requests++
				if bad {
					l.failed++
				} else {
					l.times.add(took)
				}
				l.mu.Unlock()
				if bad {
					select {
					case <-ctx.Done():
					case <-time.After(refused):
					}
				}
			}
		})
	}
	all.Wait()
}

// histogram counts times in bounded memory, to one part in 32.
type histogram struct {
	counts []int
	n      int
	most   time.Duration
}

// The first exact times are counted singly, in microseconds; beyond, each power
// of two has half as many classes.
const exact = 64

func class(d time.Duration) int {
	v := uint64(max(d.Microseconds(), 0))
	if v < exact {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return exact + (shift-1)*exact/2 + int(v>>shift) - exact/2
}

// upper is the longest time of a class.
func upper(class int) time.Duration {
	if class < exact {
		return time.Duration(class) * time.Microsecond
	}
	shift := (class-exact)/(exact/2) + 1
	low := uint64((class-exact)%(exact/2)+exact/2) << shift
	return time.Duration(low+1<<shift-1) * time.Microsecond
}

func (h *histogram) add(d time.Duration) {
	c := class(d)
	for len(h.counts) <= c {
		h.counts = append(h.counts, 0)
	}
	h.counts[c]++
	h.n++
	h.most = max(h.most, d)
}

// quantile returns a time than which the part q of all took no longer, as near
// as the classes tell, and 0 where there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rest := int(q*float64(h.n) + 0.5)
	for c, count := range h.counts {
		if rest -= count; rest <= 0 && count > 0 {
			return min(upper(c), h.most)
		}
	}
	return h.most
}

func (h *histogram) latencies() *finding.Latencies {
	if h.n == 0 {
		return nil
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return &finding.Latencies{P50: ms(h.quantile(0.5)), P90: ms(h.quantile(0.9)), P99: ms(h.quantile(0.99)), Max: ms(h.most)}
}
