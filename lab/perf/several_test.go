package perf_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"
	kmsv2 "k8s.io/kms/apis/v2"
)

// hold is a toxic that holds one answer in so many, whatever connection it comes on. Toxiproxy's own toxicity chooses
// connections. Vault's answers here take one write each, and so one chunk.
type hold struct {
	Milliseconds int
	OneIn        uint64

	mu      sync.Mutex
	random  rand.PCG // the same in each run
	answers atomic.Int64
}

func (h *hold) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case answer := <-stub.Input:
			if answer == nil {
				stub.Close()
				return
			}
			h.answers.Add(1)
			if h.holds() {
				time.Sleep(time.Duration(h.Milliseconds) * time.Millisecond)
			}
			stub.Output <- answer
		}
	}
}

func (h *hold) holds() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.random.Uint64()%h.OneIn == 0
}

// held returns the address of a Vault with one answer in so many held for so long, and the toxic that counts them.
func (v *vault) held(b *testing.B, milliseconds, oneIn int) (string, *hold) {
	toxics.Register("hold", new(hold))
	address, toxic := behind(b, v.Address, fmt.Sprintf(`{"type": "hold", "attributes": {"milliseconds": %d, "oneIn": %d}}`, milliseconds, oneIn))
	return address, toxic.Toxic.(*hold)
}

// quorum is the keys and the policy of a 2 of 3.
func quorum(patient bool, services []string) string {
	keys := "keys:\n"
	for i, service := range services {
		keys += fmt.Sprintf("- {name: k%d, id: k%d, %s}\n", i, i, service)
	}
	return keys + fmt.Sprintf("policies: [{keys: [k0, k1, k2], need: 2, patient: %t}]\n", patient)
}

// several measures what several keys do for the time to open.
func several(b *testing.B, t *table, v *vault) {
	hedging(b, t, v)
	distinct(b, t, v)
	equal(b, t, v)
}

// hedging has one of three services stall now and then.
func hedging(b *testing.B, t *table, v *vault) {
	var services []string
	for _, oneIn := range []int{20, 1 << 62, 1 << 62} {
		address, _ := v.held(b, 1000, oneIn)
		services = append(services, v.service(b, address))
	}
	patient := startConfigured(b, "trousseaud", nil, quorum(true, services))
	defer patient.Stop()
	hedged := startConfigured(b, "trousseaud", nil, quorum(false, services))
	defer hedged.Stop()
	without, with := sideBySide(500, patient.decryptCall(b), hedged.decryptCall(b))
	a, c := quantile(without, .99), quantile(with, .99)
	met := c <= a/10
	t.add("Decrypt with 2 of 3, one service stalls 1 s on 5% of calls", fmt.Sprintf("p99 %s, patient %s: 1/%.0f; median %s, patient %s",
		ms(c), ms(a), float64(a)/float64(c), ms(quantile(with, .5)), ms(quantile(without, .5))), "1/10", &met)
}

// distinct compares how many different envelopes are opened per second with what one service allows.
func distinct(b *testing.B, t *table, v *vault) {
	const callers, number, turns = 8, 10_000, 5
	var (
		services []string
		opens    []call // with one service each, then with all of them through the daemon
	)
	for range 3 {
		address, _ := behind(b, v.Address, fiveAway)
		_, open := v.direct(b, address)
		services, opens = append(services, v.service(b, address)), append(opens, open)
	}
	d := startConfigured(b, "trousseaud", nil, quorum(false, services))
	defer d.Stop()
	var (
		sealed [number]*kmsv2.EncryptResponse
		next   atomic.Int64
	)
	rate(callers, number, func() { sealed[next.Add(1)-1] = d.encrypt(b) })
	next.Store(0)
	opens = append(opens, func() { d.decrypt(b, sealed[next.Add(1)-1]) })
	seconds := make([]float64, len(opens))
	for range turns {
		for i, open := range opens {
			seconds[i] += number / turns / rate(callers, number/turns, open)
		}
	}
	alone, through := number/slices.Max(seconds[:3]), number/seconds[3]
	met := through >= .9*alone
	t.add("10,000 distinct Decrypts with 2 of 3, each 5 ms away, 8 callers",
		fmt.Sprintf("%.0f per second, the slowest service alone %.0f: %.0f%%", through, alone, 100*through/alone), "90%", &met)
}

// equal has many callers open one envelope at once.
func equal(b *testing.B, t *table, v *vault) {
	const callers = 64
	var (
		services []string
		holds    []*hold
	)
	for range 3 {
		address, hold := v.held(b, 200, 1)
		services, holds = append(services, v.service(b, address)), append(holds, hold)
	}
	d := startConfigured(b, "trousseaud", nil, quorum(false, services))
	defer d.Stop()
	first, second := d.decryptCall(b), d.decryptCall(b)
	for range 5 {
		first() // until it is known how long they take
	}
	for _, hold := range holds {
		hold.answers.Store(0)
	}
	rate(callers, callers, second)
	var (
		answers []string
		sum     int64
	)
	met := true
	for _, hold := range holds {
		n := hold.answers.Load()
		answers, sum, met = append(answers, fmt.Sprint(n)), sum+n, met && n <= 1
	}
	met = met && sum >= 2 // else they were not counted
	t.add("calls to each of three services, 64 callers open one value, 2 of 3", strings.Join(answers, ", "), "1 each", &met)
}
