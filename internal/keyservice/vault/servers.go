package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/trousseau-io/trousseau/internal/keyservice"
)

// servers is the nodes of one cluster. It asks the one that answered last, and the others in their order when that one is
// away. It knows nothing of tokens.
type servers struct {
	nodes     []*api.Client
	transport *transport
	preferred atomic.Int32 // index into nodes
	log       *slog.Logger
}

func newServers(config Config, log *slog.Logger) (*servers, error) {
	transport, err := newTransport(config)
	if err != nil {
		return nil, err
	}
	s := &servers{transport: transport, log: log}
	for _, address := range config.Addresses {
		node, err := newNode(address, config.Namespace, transport)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, node)
	}
	return s, nil
}

// newNode returns a client of one server that takes nothing from the environment, does not retry and follows nobody.
func newNode(address, namespace string, transport http.RoundTripper) (*api.Client, error) {
	node, err := api.NewClient(&api.Config{
		Address:            address,
		DisableEnvironment: true,
		DisableRedirects:   true,
		MaxRetries:         0,
		CheckRetry:         func(context.Context, *http.Response, error) (bool, error) { return false, nil },
		HttpClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if namespace != "" {
		node.SetNamespace(namespace)
	}
	return node, nil
}

// do sends r to a server that answers. An answer that another server would give as well ends the search: only what is
// Unavailable goes on to the next address.
func (s *servers) do(ctx context.Context, op string, r request) (answer, error) {
	first := int(s.preferred.Load())
	var failures []*keyservice.Error
	for i := range len(s.nodes) {
		n := (first + i) % len(s.nodes)
		got, err := s.ask(ctx, op, s.nodes[n], r, len(s.nodes)-i)
		if err == nil || err.Kind != keyservice.Unavailable {
			s.prefer(first, n)
			return got, plain(err)
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			return answer{}, err
		}
	}
	return answer{}, s.summary(op, first, failures)
}

// plain avoids an error that holds a nil pointer.
func plain(err *keyservice.Error) error {
	if err == nil {
		return nil
	}
	return err
}

func (s *servers) prefer(before, now int) {
	if before != now && s.preferred.CompareAndSwap(int32(before), int32(now)) {
		s.log.Warn("using another server", "address", s.nodes[now].Address(), "instead_of", s.nodes[before].Address())
	}
}

// ask sends r to one server. With left-1 further ones to try, it takes its share of the time that is left, so that a
// server which accepts a request and does not answer leaves time for another.
func (s *servers) ask(ctx context.Context, op string, node *api.Client, r request, left int) (answer, *keyservice.Error) {
	attempt := ctx
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		attempt, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	sent, err := r.build(node)
	if err != nil {
		return answer{}, &keyservice.Error{Kind: keyservice.Invalid, Op: op, Err: err}
	}
	response, err := node.RawRequestWithContext(attempt, sent)
	if response != nil {
		defer response.Body.Close()
	}
	if err != nil {
		return answer{}, classify(ctx, op, err, r)
	}
	if response.StatusCode >= 300 {
		return answer{}, judge(op, response.StatusCode, []string{"it redirects to another node"}, r.login)
	}
	body, err := readAll(response.Body)
	if err != nil {
		return answer{}, classify(ctx, op, fmt.Errorf("reading the answer: %w", err), r)
	}
	return answer{status: response.StatusCode, body: body, date: response.Header.Get("Date")}, nil
}

// summary is the error when no server could be used: with one server what happened there, else what happened at each.
func (s *servers) summary(op string, first int, failures []*keyservice.Error) error {
	if len(failures) == 1 {
		return failures[0]
	}
	hint, said := failures[0].Hint, make([]error, len(failures))
	for i, f := range failures {
		said[i] = fmt.Errorf("%s: %w", s.nodes[(first+i)%len(s.nodes)].Address(), f.Err)
		if f.Hint == hintSealed || (f.Hint == hintTLS && hint != hintSealed) {
			hint = f.Hint // says more than that nobody answers
		}
	}
	return &keyservice.Error{Kind: keyservice.Unavailable, Op: op, Hint: hint, Err: joined(said)}
}

// joined is errors.Join on one line, because the text goes into a log attribute.
func joined(errs []error) error { return &oneLine{errors.Join(errs...)} }

type oneLine struct{ error }

func (o *oneLine) Error() string { return strings.ReplaceAll(o.error.Error(), "\n", "; ") }
func (o *oneLine) Unwrap() error { return o.error }

// refresh makes new connections if the TLS files changed.
func (s *servers) refresh() error { return s.transport.reload() }

// stale reports whether the TLS files changed since the last refresh.
func (s *servers) stale() bool { return s.transport.stale() }

func (s *servers) close() { s.transport.CloseIdleConnections() }
