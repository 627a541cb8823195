-- Cancellations and credit notes are written about too. Not validated: what is there satisfied the narrower rule.
alter table emails drop constraint emails_kind_check;
alter table emails add constraint emails_kind_check check (
    kind in ('acknowledgement', 'confirmation', 'receipt', 'cancellation', 'credit_note')) not valid;
