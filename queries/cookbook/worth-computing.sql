-- Which candidates to compute first
--
-- Structures of the store as candidates, held against all others: the class of each with its rule,
-- in the order in which to compute them. A class says where a candidate lies among what is known,
-- not that it is stable. For a file of candidates ask `screen` itself; `screen_limits` gives the
-- error rates.
--
-- candidates = nsites > 20: an SQL condition on `structure`, which of them are candidates
SELECT
    rank, candidate, formula, class, p, p_sparse, element, site_index, nearest_id, rule
FROM screen(getvariable('candidates'))
WHERE class IN ('frontier', 'covered')
ORDER BY rank;
