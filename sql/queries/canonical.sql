-- Everything that an audit finds, sorted, without times and runs: equal for equal settings on the same machine.
select what, key, content from (
    select 'accepted_label' as what, label || '/' || accepted as key, '' as content from accepted_label
    union all
    select 'audit', audit_id, concat_ws('|', name, seed, generator, settings, tests, gate_lower, gate_upper, finished_budget, ended) from audit
    union all
    select 'caption', image_id, text from caption
    union all
    select 'chunk', chunk_id, concat_ws('|', prompt_id, wave, first_index, images) from chunk
    union all
    select 'cluster', cluster_id, concat_ws('|', round, classifier, label, predicted, place) from cluster
    union all
    select 'cluster_member', cluster_id || '/' || image_id, '' from cluster_member
    union all
    select 'decision', concat_ws('/', hypothesis_id, classifier), concat_ws('|', status, e_value, q_value) from decision
    union all
    select 'embedding', image_id, md5(vector::varchar) from embedding
    union all
    select 'evidence', concat_ws('/', hypothesis_id, classifier, wave), concat_ws('|', pairs, more, less, e_value, low, high) from evidence
    union all
    select 'further_prompt', hypothesis_id || '/' || place, prompt_id from further_prompt
    union all
    select 'hypothesis', hypothesis_id, concat_ws('|', label, prompt_id, event, description, place, score, origin, round, weight, born_wave, cluster_id, parent_id) from hypothesis
    union all
    select 'image', image_id, concat_ws('|', chunk_id, prompt_id, wave, index, gate_score, answers, errors, md5(jpeg)) from image
    union all
    select 'failed_item', kind || '/' || prompt_id || '/' || index, reason from failed_item
    union all
    select 'label', label, concat_ws('|', place, plain_prompt_id) from label
    union all
    select 'model', content_key, concat_ws('|', role, name, source) from model
    union all
    select 'prediction', image_id || '/' || classifier, concat_ws('|', prompt_id, wave, index, gate_score, predicted, wrong, score, label_score, margin, top_labels, top_scores) from prediction
    union all
    select 'outcome_count', concat_ws('/', prompt_id, wave, classifier, predicted, wrong, gate_from), sum(images)::varchar from outcome_count group by all
    union all
    select 'photograph', name, concat_ws('|', label, half, index, digest, width, height, reason) from photograph
    union all
    select 'photograph_pair', hypothesis_id || '/' || place, image_id || '/' || plain_image_id from photograph_pair
    union all
    select 'pair_count', concat_ws('/', hypothesis_id, classifier, wave),
        concat_ws('|', images, n, failures, baseline_n, baseline_failures, pairs, more, less, failures_without_gate, baseline_failures_without_gate)
    from pair_count
    union all
    select 'prompt', prompt_id, concat_ws('|', label, text, description) from prompt
    union all
    select 'round', round::varchar, concat_ws('|', kind, wave, tests, weight, max_images) from round
    union all
    select 'standing', hypothesis_id, concat_ws('|', bug, live, reason) from standing
    union all
    select 'text_embedding', prompt_id, md5(vector::varchar) from text_embedding
    union all
    select 'wave', wave || '/' || place, concat_ws('|', phase, prompt_id, first_index, images, max_images) from wave
)
order by what, key, content;
