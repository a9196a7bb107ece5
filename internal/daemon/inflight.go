package daemon

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Limit bounds the calls that a gRPC server handles at once to n. Further calls wait, the first come first, for as long
// as their context lasts: an API server that starts opens many seeds at once and does not retry, so to refuse what could
// be answered within its deadline would do harm. A call whose deadline passes while it waits is answered with
// ResourceExhausted, one whose caller leaves with Canceled.
//
// The methods in exempt, by their full names, are neither counted nor do they wait. Status belongs there: it is answered
// from memory, and late it would make a busy daemon look broken.
//
// Limit panics if n is less than 1.
func Limit(n int, exempt ...string) grpc.UnaryServerInterceptor {
	if n < 1 {
		panic("daemon: Limit of less than one call")
	}
	slots := make(chan struct{}, n)
	return func(ctx context.Context, req any, call *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if slices.Contains(exempt, call.FullMethod) {
			return handle(ctx, req)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			code := codes.ResourceExhausted
			if errors.Is(ctx.Err(), context.Canceled) {
				code = codes.Canceled
			}
			return nil, status.Errorf(code, "waiting for one of %d calls to end: %v", n, ctx.Err())
		}
		defer func() { <-slots }()
		return handle(ctx, req)
	}
}
