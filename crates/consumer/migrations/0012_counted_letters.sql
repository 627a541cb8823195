-- Consoles count the letters of each fingerprint every few seconds. From this index alone, without the letters' content, that
-- takes 0.2 s instead of 0.6 s with a million letters of one kilobyte, and a twelfth of the pages.
create index dead_letter_counted on dead_letter (fingerprint, seq)
    include (subscription, status, died_at, closed_at);
drop index dead_letter_by_fingerprint;
