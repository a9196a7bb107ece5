package perf_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kmsv2 "k8s.io/kms/apis/v2"
)

var seed = []byte("0123456789abcdef0123456789abcdef")

// call does one thing and fails the benchmark if it cannot.
type call func()

// sideBySide times two calls by turns, so that noise hits both, and returns their durations in order.
func sideBySide(rounds int, first, second call) (a, b []time.Duration) {
	time1 := func(f call) time.Duration {
		start := time.Now()
		f()
		return time.Since(start)
	}
	for range rounds / 10 { // warm up
		first()
		second()
	}
	for range rounds {
		a, b = append(a, time1(first)), append(b, time1(second))
	}
	slices.Sort(a)
	slices.Sort(b)
	return a, b
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(float64(len(sorted)-1)*q)]
}

func (d *daemon) encryptCall(b *testing.B) call {
	return func() { d.encrypt(b) }
}

func (d *daemon) encrypt(b *testing.B) *kmsv2.EncryptResponse {
	sealed, err := d.Encrypt(context.Background(), &kmsv2.EncryptRequest{Plaintext: seed, Uid: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	return sealed
}

func (d *daemon) decryptCall(b *testing.B) call {
	sealed := d.encrypt(b)
	return func() { d.decrypt(b, sealed) }
}

func (d *daemon) decrypt(b *testing.B, sealed *kmsv2.EncryptResponse) {
	_, err := d.Decrypt(context.Background(), &kmsv2.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId, Annotations: sealed.Annotations})
	if err != nil {
		b.Fatal(err)
	}
}

// direct returns the calls that the daemon makes, by the client library that it makes them with.
func (v *vault) direct(b *testing.B, address string) (encrypt, decrypt call) {
	client := v.client(b, address)
	aad := base64.StdEncoding.EncodeToString(make([]byte, 75)) // as long as a share's
	write := func(path string, body map[string]any) map[string]any {
		secret, err := client.Write(path, body)
		if err != nil {
			b.Fatal(err)
		}
		return secret.Data
	}
	plain := map[string]any{"plaintext": base64.StdEncoding.EncodeToString(seed), "associated_data": aad, "key_version": 1}
	wrapped := map[string]any{"ciphertext": write("transit/encrypt/k8s", plain)["ciphertext"], "associated_data": aad}
	return func() { write("transit/encrypt/k8s", plain) }, func() { write("transit/decrypt/k8s", wrapped) }
}

func latencies(b *testing.B, t *table, v *vault) {
	measure := func(place, address string, rounds int, judge func(direct, through time.Duration) (string, string, bool)) {
		d := startDaemon(b, v.key(b, address))
		defer d.Stop()
		directEncrypt, directDecrypt := v.direct(b, address)
		for _, op := range []struct {
			name            string
			direct, through call
		}{{"Encrypt", directEncrypt, d.encryptCall(b)}, {"Decrypt", directDecrypt, d.decryptCall(b)}} {
			direct, through := sideBySide(rounds, op.direct, op.through)
			a, c := quantile(direct, .5), quantile(through, .5)
			difference, target, met := judge(a, c)
			t.add(op.name+" through the socket, "+place,
				fmt.Sprintf("median %s, direct %s: %s; p99 %s, direct %s", ms(c), ms(a), difference, ms(quantile(through, .99)), ms(quantile(direct, .99))), target, &met)
		}
	}
	measure("Vault on loopback", v.Address, 3000, func(a, c time.Duration) (string, string, bool) {
		return "+" + ms(c-a), "+0.3 ms", c-a <= 300*time.Microsecond
	})
	measure("Vault 5 ms away", v.far, 400, func(a, c time.Duration) (string, string, bool) {
		ratio := float64(c) / float64(a)
		return fmt.Sprintf("%.2f times", ratio), "1.15 times", ratio <= 1.15
	})
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

// status asks for the status while nothing else happens, and counts the calls that reach the key service.
func status(b *testing.B, t *table, v *vault) {
	d := startDaemon(b, v.key(b, v.Address))
	defer d.Stop()
	before := keyCalls(d.metrics(b))
	const rounds = 10_000
	var took []time.Duration
	for range rounds {
		start := time.Now()
		if err := d.status(context.Background()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	calls := keyCalls(d.metrics(b)) - before
	none, quick := calls == 0, quantile(took, .99) < time.Millisecond
	t.add("calls to the key service in 10,000 of Status", fmt.Sprint(calls), "0", &none)
	t.add("Status", fmt.Sprintf("median %s, p99 %s", ms(quantile(took, .5)), ms(quantile(took, .99))), "p99 under 1 ms", &quick)
}

// keyCalls adds up trousseau_key_calls_total.
func keyCalls(metrics string) (sum int) {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "trousseau_key_calls_total{") {
			var n int
			fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n)
			sum += n
		}
	}
	return sum
}

func throughput(b *testing.B, t *table, v *vault) {
	for _, key := range []struct{ name, entry string }{
		{"vault", v.key(b, v.Address)}, {"local", localKey(b, "--key-file", "keyFile")},
	} {
		d := startDaemon(b, key.entry)
		for _, op := range []struct {
			name string
			call call
		}{{"Encrypt", d.encryptCall(b)}, {"Decrypt", d.decryptCall(b)}} {
			var rates []string
			for _, callers := range []int{1, 8, 64} {
				rates = append(rates, fmt.Sprintf("%.0f", rate(callers, 6000, op.call)))
			}
			t.add(op.name+" per second with 1, 8, 64 callers, "+key.name, strings.Join(rates, ", "), "", nil)
		}
		d.Stop()
	}
}

// rate makes n calls by some callers at once and returns how many were made per second.
func rate(callers, n int, f call) float64 {
	start := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range n / callers {
				f()
			}
		})
	}
	wg.Wait()
	return float64(n/callers*callers) / time.Since(start).Seconds()
}
