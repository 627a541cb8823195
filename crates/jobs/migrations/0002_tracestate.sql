-- Goes with traceparent: what tracing systems other than ours need to follow the flow (W3C Trace Context, 3.3).
alter table job add column tracestate text;
